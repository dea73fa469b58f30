"""The option that says which outputs a model's maps explain."""

from typing import Annotated

import typer

from worker.core.errors import UsageError

Explained = Annotated[
    str | None,
    typer.Option(
        "--explain",
        metavar="LOWEST,HIGHEST",
        help="The outputs that a map may explain: the highest passed, brought within these. 1,2: why an eye is"
        " referred, or what speaks for any retinopathy; 0,4: why it has its grade.",
    ),
]


def parse_explained(value: str | None, *, otherwise: tuple[int, int]) -> tuple[int, int]:
    """Two outputs, which the manifest checks. Raises UsageError where they are not two whole numbers."""
    if value is None:
        return otherwise
    try:
        lowest, highest = (int(part) for part in value.split(","))
    except ValueError as error:
        raise UsageError(f"--explain {value} is not LOWEST,HIGHEST, such as 1,2") from error
    return lowest, highest
