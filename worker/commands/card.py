"""`fundus model card`: write the model card of a bundle."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.storage.atomic_write import write_atomically
from worker.core.terminal.output import print_note, stderr_console
from worker.core.terminal.progress_bar import progress_bar
from worker.model.bundle.bundle import DEFAULT_BUNDLE
from worker.model.bundle.ensemble import load_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.evaluation.saliency.pointing_view import PointingGame
    from worker.model.engines.protocol import Engine


def card(
    bundle: Annotated[str, typer.Argument(help="Name of a shipped bundle, or a folder.")] = DEFAULT_BUNDLE,
    *,
    validation: Annotated[
        Path | None,
        typer.Option(help="Manifest of the data set that the bundle was trained on; its training set is excluded."),
    ] = None,
    external: Annotated[Path | None, typer.Option(help="Manifest of a data set from another source.")] = None,
    lesions: Annotated[
        Path | None,
        typer.Option(help="Folder with photographs NAME.jpg and masks NAME_lesions.png for the pointing game."),
    ] = None,
    contact: Annotated[str | None, typer.Option(help="Whom to ask, as a sentence for the card.")] = None,
    out: Annotated[Path, typer.Option(help="Output folder for MODEL_CARD.md, metrics and plots.")] = Path("model-card"),
) -> None:
    """Write the model card: data, recipe, metrics with intervals on held-out photographs, plots and limits.

    Examples:

        fundus model card fit-1/bundle --validation eyes.csv --external idrid.csv --out card

        fundus model card --external idrid.csv --lesions masks
    """
    # TensorFlow, scikit-learn, SciPy and Matplotlib are slow to import.
    from worker.evaluation.plots import draw_plots
    from worker.model.engines.factory import make_engine
    from worker.model_card.held_out_grading import evaluate_held_out
    from worker.model_card.page import CONTACT, render_card
    from worker.training.lineage import trace_lineage

    settings, messages = read_settings(), stderr_console()
    loaded = load_model(bundle)
    lineage = trace_lineage(bundle, loaded)
    engine = make_engine(settings.engine, loaded)
    manifests = {"Validation": validation, "External": external}
    given = {name: path for name, path in manifests.items() if path is not None}
    if not given and lesions is None:
        raise UsageError("no data to evaluate the bundle on: give --validation, --external or --lesions")

    def on_warning(sentence: str) -> None:
        print_note(sentence, messages)

    with progress_bar(messages) as progress:
        task = progress.add_task("grading", total=None)
        evaluations = [
            evaluate_held_out(
                name,
                path,
                engine,
                lineage,
                settings,
                on_warning=on_warning,
                on_progress=lambda: progress.advance(task),
            )
            for name, path in given.items()
        ]
        pointing = None if lesions is None else _play_pointing_game(engine, lesions, on_warning)
    try:
        plots: dict[str, list[str]] = {}
        for held_out in evaluations:
            folder = out / held_out.name.lower()
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / "evaluation.json", (held_out.evaluation.to_json(indent=2) + "\n").encode())
            drawn = draw_plots(held_out.evaluation, held_out.images, folder)
            plots[held_out.name] = [path.relative_to(out).as_posix() for path in drawn]
        out.mkdir(parents=True, exist_ok=True)
        options = {"--validation": validation, "--external": external, "--lesions": lesions}
        words = [word for option, path in options.items() if path is not None for word in (option, str(path))]
        command = shlex.join(["fundus", "model", "card", bundle, *words])
        text = render_card(loaded, evaluations, pointing, plots, command, contact=contact or CONTACT)
        write_atomically(out / "MODEL_CARD.md", text.encode())
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}") from error
    typer.echo(out / "MODEL_CARD.md")


def _play_pointing_game(engine: "Engine", folder: Path, on_warning: "Callable[[str], None]") -> "PointingGame":
    from worker.evaluation.saliency.pointing_game import play_pointing_game
    from worker.evaluation.saliency.pointing_view import summarise_game

    scores = play_pointing_game(engine, folder, on_warning=on_warning, on_progress=lambda: None)
    return summarise_game(scores, model=engine.bundle.name, model_id=engine.bundle.model_id, resamples=1000, seed=0)
