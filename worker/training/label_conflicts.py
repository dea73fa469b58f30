"""Find photographs that occur more than once in a manifest with different reference grades."""

from collections import defaultdict

from pydantic import BaseModel, ConfigDict

from worker.training.dataset import DatasetIndex
from worker.training.split import HASH_DIGITS


class LabelConflict(BaseModel):
    """A photograph with a reference grade, whose pixels have a different reference grade elsewhere in the manifest."""

    model_config = ConfigDict(frozen=True)

    pixel_sha256: str
    """Start of the hash, as in `split.csv`."""
    image_id: str
    reference_grade: int


def find_label_conflicts(index: DatasetIndex) -> list[LabelConflict]:
    """Return every photograph with conflicting grades, sorted by pixel hash and grade."""
    grades: dict[str, set[int]] = defaultdict(set)
    rows = [
        (pixels, grade, image_id)
        for pixels, grade, image_id in zip(index.pixel_hashes, index.grades, index.image_ids, strict=True)
        if grade is not None
    ]
    for pixels, grade, _ in rows:
        grades[pixels].add(grade)
    return [
        LabelConflict(pixel_sha256=pixels[:HASH_DIGITS], image_id=image_id, reference_grade=grade)
        for pixels, grade, image_id in sorted(rows)
        if len(grades[pixels]) > 1
    ]
