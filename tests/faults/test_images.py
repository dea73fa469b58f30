"""Images that harm whoever touches them: they end alone, and their neighbours are graded."""

from pathlib import Path

import pytest

from tests.faults.conftest import Record
from tests.faults.hooks import Hooks
from tests.faults.site import Site
from tests.faults.trial import trial


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_image_that_kills_its_worker_is_quarantined_alone(
    workers: int, full: Site, small_bundle: Path, conclude: Record
) -> None:
    hooks = Hooks(folder=full.folder, killer="p0013.png")
    with trial(full, small_bundle, images=60, workers=workers, hooks=hooks) as run:
        run.until_killed(3)
        conclude(
            f"image kills its worker, {workers} workers", run, expected={"graded": 59, "quarantined": 1}, within_s=240
        )
        assert full.rows("SELECT image_id, attempts FROM gradings WHERE status = 'quarantined'") == [("p0013", 3)]
        assert len(run.supervisor.exits) == 3
