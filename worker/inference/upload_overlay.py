"""Upload one overlay to the object store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.core.storage.keys import CONTENT_TYPES, overlay_key

if TYPE_CHECKING:
    from typing import Literal

    from worker.core.predictions import GradeDecision
    from worker.core.storage.object_store import ObjectStore


def upload_overlay(
    store: ObjectStore,
    encoded: bytes,
    *,
    run_name: str,
    model_id: str,
    image_id: str,
    decision: GradeDecision,
    fmt: Literal["png", "jpeg"],
) -> str:
    """Upload an encoded overlay and return its key, which depends on the ids only. Raises StorageError."""
    key = overlay_key(run_name, model_id, image_id, fmt)
    store.put(
        key,
        encoded,
        content_type=CONTENT_TYPES[fmt],
        metadata={"run": run_name, "model": model_id, "image": image_id, "grade": str(int(decision.grade))},
    )
    return key
