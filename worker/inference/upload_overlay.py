"""Upload one overlay to the object store, unless another worker grades the image by now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.core.errors import LeaseLostError, StorageError
from worker.core.storage.keys import CONTENT_TYPES, overlay_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from worker.core.predictions import GradeDecision
    from worker.core.storage.object_store import ObjectStore

MAX_TRIES = 5
"""Limits how often another writer may change the object meanwhile."""


def upload_overlay(
    store: ObjectStore,
    encoded: bytes,
    *,
    run_name: str,
    model_id: str,
    image_id: str,
    decision: GradeDecision,
    fmt: Literal["png", "jpeg"],
    is_held: Callable[[], bool],
) -> str:
    """Upload an encoded overlay and return its key, which depends on the ids only.

    is_held: whether this worker still leases the image. It is called only if the object exists. A worker that has lost
    its lease while it was stalled cannot replace the overlay of the one that settled the image: that one wrote the
    object after it took the lease, so either the object has changed since its version was read, or the lease was lost
    before. Raises LeaseLostError, StorageError, and what is_held raises.
    """
    key = overlay_key(run_name, model_id, image_id, fmt)
    metadata = {"run": run_name, "model": model_id, "image": image_id, "grade": str(int(decision.grade))}
    version = None
    for _ in range(MAX_TRIES):
        if store.put_if_unchanged(key, encoded, version=version, content_type=CONTENT_TYPES[fmt], metadata=metadata):
            return key
        # In this order: a write after the version was read makes the next condition fail.
        version = store.version(key)
        if not is_held():
            raise LeaseLostError(f"image {image_id} of run {run_name} is graded by another worker by now")
    raise StorageError(f"cannot write {store.uri(key)}: it has changed {MAX_TRIES} times meanwhile")
