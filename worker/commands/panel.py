"""`fundus panel`: photograph, preprocessed image and overlay side by side, without a ledger or a broker."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from worker.core.errors import UsageError
from worker.core.manifests.admission import make_admission_policy
from worker.core.manifests.labels import read_labels_by_name
from worker.core.settings import read_settings
from worker.inference.panels import MAX_IMAGES, draw_panels

app = typer.Typer()


@app.command()
def panel(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, or s3://BUCKET/KEY.")],
    out: Annotated[Path, typer.Option(help="The PNG.")] = Path("panel.png"),
    labels: Annotated[
        Path | None, typer.Option(help="CSV of reference grades by file name, as APTOS and IDRiD have them.")
    ] = None,
) -> None:
    """Grade photographs and draw each as a row of one picture: photograph, preprocessed, overlay.

    A photograph that can't be graded has a row that says why. The same steps as in a worker, and nothing is recorded.

    Examples:
    $ fundus panel eye.jpg
    $ fundus panel images/*.png --labels train.csv --out figure.png
    """
    settings = read_settings()
    if len(images) > MAX_IMAGES:
        raise UsageError(f"{len(images)} images, one picture holds {MAX_IMAGES}")
    references = {} if labels is None else read_labels_by_name(labels, make_admission_policy(settings).allowed_columns)
    messages = Console(stderr=True, highlight=False)
    data = draw_panels(
        settings,
        images,
        {name: int(grade) for name, grade in references.items()},
        on_warning=lambda sentence: messages.print(sentence, soft_wrap=True, markup=False),
    )
    try:
        out.write_bytes(data)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}") from error
    Console(highlight=False).print(str(out), soft_wrap=True, markup=False)
