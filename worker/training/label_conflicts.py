"""Pictures that a manifest gives more than once and grades differently: how far the references can be trusted."""

from collections import defaultdict

from pydantic import BaseModel, ConfigDict

from worker.training.dataset import DatasetIndex
from worker.training.split import HASH_DIGITS


class LabelConflict(BaseModel):
    """A photograph whose very pixels have another reference grade elsewhere in the manifest."""

    model_config = ConfigDict(frozen=True)

    pixel_sha256: str
    """As in a split."""
    image_id: str
    reference_grade: int


def find_label_conflicts(index: DatasetIndex) -> list[LabelConflict]:
    """All of them; those of one picture stand together, by their grades."""
    grades: dict[str, set[int]] = defaultdict(set)
    for pixels, grade in zip(index.pixel_hashes, index.grades, strict=True):
        grades[pixels].add(grade)
    rows = zip(index.pixel_hashes, index.grades, index.image_ids, strict=True)
    return [
        LabelConflict(pixel_sha256=pixels[:HASH_DIGITS], image_id=image_id, reference_grade=grade)
        for pixels, grade, image_id in sorted(rows)
        if len(grades[pixels]) > 1
    ]
