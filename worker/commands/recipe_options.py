"""Options of a training recipe that `fundus model fit` and `fundus model cross-validate` share."""

from typing import Annotated, Literal

import typer

TrainFrom = Annotated[
    str | None,
    typer.Option(
        metavar="LAYER",
        help="Train the backbone from this layer on; earlier layers keep their weights. Default: train all of it.",
    ),
]
MixAmplitudes = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Mix up to this share of another photograph's amplitude spectrum into half of the photographs.",
    ),
]
SmoothLabels = Annotated[
    float,
    typer.Option(
        min=0,
        max=0.49,
        help="Train towards this probability instead of 0, and one minus it instead of 1; for uncertain grades.",
    ),
]
FitPrecision = Annotated[
    Literal["auto", "bfloat16", "float32"],
    typer.Option(help="auto: bfloat16 if the hardware supports it, else float32."),
]
FitBackend = Annotated[
    Literal["auto", "tensorflow", "jax"],
    typer.Option(help="auto: JAX on a GPU where it is installed for it, else the first one installed."),
]
