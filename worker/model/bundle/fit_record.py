"""How the weights of a bundle came to be, for those who must judge their figures."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SPLIT_FILE = "split.csv"

ByGrade = tuple[int, int, int, int, int]


class FitRecord(BaseModel):
    """What `fundus model fit` did; `split.csv` beside it lists the pixels that were learnt from and judged by."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    manifest_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    split_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of `split.csv`."""
    training: ByGrade
    """Photographs by reference grade."""
    validation: ByGrade
    left_out: int = Field(ge=0)
    """Photographs that no worker would have graded."""
    initial_model_id: str | None
    """Whose weights were the first; None for random ones."""
    ancestry: Literal["known", "unknown"]
    """Whether `split.csv` lists all that these weights, and those that they began with, have ever learnt from."""
    validation_seen: Literal["no", "yes", "unknown"]
    """Whether the first weights had learnt from a validation picture; figures on it are worth nothing unless `no`."""
    seed: int
    epochs: int
    best_epoch: int
    """The first epoch is 1; its averaged weights are the bundle's, or their rest beside `initial_share`."""
    chosen_by: Literal["loss"] | None = None
    """What made it the best on the validation pictures; None: its kappa."""
    thresholds: Literal["kappa"] | None = None
    """What the bundle's have the highest of on the training pictures; None: they are 0.5."""
    initial_share: float | None = None
    """Of the first weights in the bundle's, the rest of them those of the best epoch; None: nothing of them."""
    batch_size: int
    learning_rate: float
    schedule: Literal["constant"] | None = None
    """How it went on after the warm-up; None: it fell to zero by a cosine."""
    weight_decay: float
    averaging: float
    balance: float
    precision: str
    versions: dict[str, str]
    """Of the libraries that did the work."""
    figures: dict[str, float | None]
    """Of the bundle's weights on the validation pictures; these chose the epoch, so they flatter a little."""
