"""How much is measured: enough for a device, or little, for a machine without one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """photographs: for the acceptance. batches: batch sizes of the engines. turn_s: seconds for each of them.

    images: of the whole job, of which `distinct` differ. processes: worker processes of each job. memory_batch: images
    of a batch that must be halved. fit_: of a fit.
    """

    photographs: int
    batches: tuple[int, ...]
    turn_s: float
    images: int
    distinct: int
    processes: tuple[int, ...]
    memory_batch: int
    fit_backbone: str
    fit_size_px: int
    fit_images: int
    fit_epochs: int


DEVICE = Sizes(
    photographs=500,
    batches=(1, 8, 32, 128),
    turn_s=3.0,
    images=6000,
    distinct=40,
    processes=(1, 2, 4),
    memory_batch=256,
    fit_backbone="DenseNet121",
    fit_size_px=320,
    fit_images=640,
    fit_epochs=3,
)
SMALL = Sizes(
    photographs=16,
    batches=(1, 4),
    turn_s=0.5,
    images=48,
    distinct=8,
    processes=(1, 2),
    memory_batch=256,
    fit_backbone="MobileNet",
    fit_size_px=32,
    fit_images=24,
    fit_epochs=3,
)
