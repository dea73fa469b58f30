"""`fundus model pointing`: do the maps point at lesions?"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from worker.contract.settings import read_settings
from worker.model.engines import make_engine
from worker.model.ensemble_bundle import load_model


def pointing(
    bundle: Annotated[str | None, typer.Argument(help="A shipped name or a folder; FUNDUS_MODEL unless given.")] = None,
    *,
    lesions: Annotated[
        Path, typer.Option(help="Folder with photographs NAME.jpg and masks NAME_lesions.png of the same size.")
    ],
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show how often the brightest place of a map lies on a lesion, beside the field's centre and chance.

    A mask has one byte a pixel, whose bits are 1 microaneurysms, 2 haemorrhages, 4 hard exudates, 8 soft exudates;
    others do not count. A map without evidence points nowhere and misses.

    Examples:

        fundus model pointing --lesions idrid_lesions

        fundus model pointing ./mine --lesions idrid_lesions --json
    """
    # SciPy and matplotlib are loaded only by the command that needs them.
    from worker.evaluation.pointing import play
    from worker.evaluation.pointing_view import count, draw_game

    settings = read_settings()
    model = load_model(bundle or settings.model)
    engine = make_engine(settings.engine, model)
    messages = Console(stderr=True, highlight=False)
    with Progress(console=messages, transient=True, disable=not messages.is_terminal) as progress:
        task = progress.add_task("pointing", total=None)
        pointed = play(engine, lesions, remark=messages.print, step=lambda: progress.advance(task))
    game = count(pointed, model=model.name, model_id=model.model_id, resamples=resamples, seed=seed)
    if as_json:
        typer.echo(game.model_dump_json())
    else:
        Console(highlight=False).print(draw_game(game))
