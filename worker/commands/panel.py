"""`fundus panel`: render photograph, preprocessed image and overlay side by side."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from worker.core.errors import UsageError
from worker.core.manifests.admission import make_admission_policy
from worker.core.manifests.labels import read_labels_by_name
from worker.core.settings import read_settings
from worker.core.storage.atomic_write import write_atomically
from worker.core.terminal.output import stderr_console
from worker.inference.panels import MAX_IMAGES, render_panels

app = typer.Typer()


@app.command()
def panel(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files or s3://BUCKET/KEY.")],
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("panel.png"),
    labels: Annotated[
        Path | None, typer.Option(help="CSV of reference grades by file name, in the format of APTOS or IDRiD.")
    ] = None,
) -> None:
    """Grade photographs and render each as one row of a figure: photograph, preprocessed image, overlay.

    It runs the same steps as a worker, without ledger or broker. The row of an ungraded photograph shows why.

    Examples:
    $ fundus panel eye.jpg
    $ fundus panel images/*.png --labels train.csv --out figure.png
    """
    settings = read_settings()
    if len(images) > MAX_IMAGES:
        raise UsageError(f"{len(images)} images given; one figure has at most {MAX_IMAGES} rows")
    references = {} if labels is None else read_labels_by_name(labels, make_admission_policy(settings).allowed_columns)
    messages = stderr_console()
    data = render_panels(
        settings,
        images,
        {name: int(grade) for name, grade in references.items()},
        on_warning=lambda warning: messages.print(warning, soft_wrap=True, markup=False),
    )
    try:
        write_atomically(out.resolve(), data)  # not over a link such as /dev/stdout
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}") from error
    Console(highlight=False).print(str(out), soft_wrap=True, markup=False)
