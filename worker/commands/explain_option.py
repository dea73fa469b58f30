"""Option `--explain`: the outputs that saliency maps explain."""

from typing import Annotated

import typer

from worker.core.errors import UsageError

Explained = Annotated[
    str | None,
    typer.Option(
        "--explain",
        metavar="LOWEST,HIGHEST",
        help="Range of outputs that a map explains: the highest output passed, limited to this range."
        " 1,2: evidence for referral, or for any retinopathy; 0,4: evidence for the grade.",
    ),
]


def parse_explained(value: str | None, *, otherwise: tuple[int, int]) -> tuple[int, int]:
    """Parse LOWEST,HIGHEST; the manifest checks the range. Raises UsageError unless these are two integers."""
    if value is None:
        return otherwise
    try:
        lowest, highest = (int(part) for part in value.split(","))
    except ValueError as error:
        raise UsageError(f"--explain {value} is not of the form LOWEST,HIGHEST, such as 1,2") from error
    return lowest, highest
