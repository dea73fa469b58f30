"""Invariants that hold after every fault, checked with plain SQL and plain reads of the store."""

from collections import Counter
from dataclasses import dataclass

from tests.faults.deployment import Deployment
from tests.faults.numbered_photographs import read_number

SETTLED = {"graded", "ungradable", "failed", "quarantined"}


@dataclass(frozen=True)
class RunCheck:
    """Result of the check of one run.

    lost: images without a settled row. duplicated: rows settled more than once, or changed afterwards.
    """

    images: int
    lost: list[str]
    duplicated: list[str]
    statuses: Counter[str]


def check_run(deployment: Deployment, run: str, image_ids: list[str]) -> RunCheck:
    """Assert all invariants of a finished run; return the numbers for the result table.

    image_ids: the photograph with number n is the n-th one.
    """
    numbers = {image_id: number for number, image_id in enumerate(image_ids)}
    rows = deployment.rows(
        "SELECT g.image_id, g.status, g.lease_token, g.overlay_key, g.model_id, r.state FROM gradings g"
        f" JOIN runs r USING (run_id) WHERE r.name = '{run}'"
    )
    settled = Counter(image_id for image_id, status, *_ in rows if status in SETTLED)
    times_settled = Counter(image_id for (image_id,) in deployment.rows("SELECT image_id FROM settlings"))
    result = RunCheck(
        images=len(image_ids),
        lost=[image_id for image_id in image_ids if settled[image_id] != 1],
        duplicated=[image_id for image_id, times in times_settled.items() if times != 1],
        statuses=Counter(status for _, status, *_ in rows),
    )
    assert result.lost == []
    assert result.duplicated == []
    assert sorted(settled) == sorted(image_ids)
    assert [row for row in rows if row[2] is not None] == [], "a row still has a lease"
    assert {state for *_, state in rows} == {"finished"}
    graded = {key: (image_id, model_id) for image_id, status, _, key, model_id, _ in rows if status == "graded"}
    report_prefixes = [prefix for (prefix,) in deployment.rows("SELECT prefix FROM reports WHERE prefix IS NOT NULL")]
    overlays = [key for key in sorted(deployment.keys()) if not key.startswith(tuple(report_prefixes))]
    assert overlays == sorted(graded), "overlays and graded rows differ"
    for key, (image_id, model_id) in graded.items():
        assert key == f"{run}/{model_id}/{image_id}.jpg"
        assert read_number(deployment.read(key)) == numbers[image_id], f"{key} is the overlay of another photograph"
    return result
