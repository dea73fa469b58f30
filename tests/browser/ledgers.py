"""Synthetic finished runs of any size, inserted directly into the ledger."""

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import numpy as np
from sqlalchemy import Engine, insert, select

from worker.console.decisions import ReviewForm, record_decision
from worker.console.image_detail import read_image_detail
from worker.console.sessions import SessionUser
from worker.core.vocabulary import Role, Status
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.review_schema import users
from worker.ledger.schema import gradings, images, models, runs
from worker.model.bundle.bundle import DEFAULT_BUNDLE, find_bundle
from worker.model.bundle.ensemble import read_any_manifest

MANIFEST = read_any_manifest(find_bundle(DEFAULT_BUNDLE))
EVENING = datetime(2026, 11, 22, 20, tzinfo=UTC)
SCREENING = (0.745, 0.155, 0.06, 0.012, 0.008)
"""Shares of grades 0 to 4 in a screening programme; the remaining images have no grade."""
REASONS = ("blurred", "too_dark", "no_field", "over_exposed")
FAILURES = ("image_missing", "image_damaged")

Rows = tuple[dict[str, Any], dict[str, Any]]


def fill_ledger(
    engine: Engine,
    name: str,
    count: int,
    photographs: Sequence[str],
    *,
    shares: Sequence[float] = SCREENING,
    seed: int = 7,
) -> int:
    """Insert a finished run of `count` images, two per patient, that use `photographs` in turn. Return its id."""
    with write_transaction(engine) as connection:
        document = MANIFEST.model_dump(mode="json")
        model = {"model_id": MANIFEST.model_id, "name": MANIFEST.name, "document": document, "registered_at": EVENING}
        if connection.execute(models.select()).first() is None:
            connection.execute(insert(models).values(model))
        run = {"name": name, "kind": "nightly", "state": "finished", "queue": "bulk", "chunk_size": 32}
        run |= {"source": "s3://screening/2026-11-22/", "model_id": MANIFEST.model_id, "created_at": EVENING}
        run_id = connection.execute(
            insert(runs).values(**run, finished_at=EVENING + timedelta(hours=6)).returning(runs.c.run_id)
        ).scalar_one()
    rows = _make_rows(name, run_id, count, photographs, shares, random.Random(seed))
    while page := list(islice(rows, 5000)):
        with write_transaction(engine) as connection:
            connection.execute(insert(images), [image for image, _ in page])
            connection.execute(insert(gradings), [grading for _, grading in page])
    return int(run_id)


def add_reviews(engine: Engine, run: str, decided: Mapping[str, Sequence[int | None]]) -> None:
    """Record reviews. `decided` maps an image id to the grades of anna, ben and the arbitrator cleo."""
    readers = [SessionUser(name, Role.GRADER, "") for name in ("anna", "ben", "cleo")]
    with write_transaction(engine) as connection:
        if connection.execute(select(users)).first() is None:
            rows = [
                {"name": one.name, "role": one.role, "password_hash": "none", "created_at": EVENING} for one in readers
            ]
            connection.execute(insert(users), rows)
    for image_id, grades in decided.items():
        last = 0
        for reader, grade in zip(readers, grades, strict=False):
            image = read_image_detail(engine, run, image_id)
            assert image is not None
            # The second reader does not see the first decision; the arbitrator sees both.
            form = ReviewForm(grade, "haemorrhages", image.model_result, last if reader.name == "cleo" else 0)
            last = record_decision(engine, run, image_id, reader, form, default_readers=2)


def ids_by_grade(engine: Engine, run_id: int, grade: int | None) -> list[str]:
    """Return the ids of the images with this model grade, in order; None selects ungradable ones."""
    which = gradings.c.status == Status.UNGRADABLE if grade is None else gradings.c.grade == grade
    query = select(gradings.c.image_id).where(gradings.c.run_id == run_id, which).order_by(gradings.c.image_id)
    with read_transaction(engine) as connection:
        return list(connection.scalars(query))


def _make_rows(
    name: str, run_id: int, count: int, photographs: Sequence[str], shares: Sequence[float], rng: random.Random
) -> Iterator[Rows]:
    for number in range(count):
        image_id = f"{name}-{number:06}"
        place = rng.random()
        grade = next((grade for grade in range(5) if place < sum(shares[: grade + 1])), None)
        known = None if number % 3 == 0 else max(0, min(4, (grade or 0) + rng.choice((-1, 0, 0, 0, 0, 1))))
        image = {
            "image_id": image_id,
            "uri": photographs[number % len(photographs)],
            "patient_id": f"P{number // 2:06}",
            "eye": "right" if number % 2 == 0 else "left",
            "reference_grade": known,
            "registered_at": EVENING,
        }
        settled = EVENING + timedelta(seconds=60 + 4 * number / max(1, count) * 3600 * (0.8 + 0.2 * rng.random()))
        common = {"run_id": run_id, "image_id": image_id, "position": number, "due_at": 0.0, "settled_at": settled}
        yield image, common | (_ungraded(rng) if grade is None else _graded(name, image_id, grade, rng))


def _graded(name: str, image_id: str, grade: int, rng: random.Random) -> dict[str, Any]:
    lowest, highest = min(MANIFEST.thresholds[1:]), max(MANIFEST.thresholds[1:])
    above = sorted((1 - (1 - highest) * rng.random() for _ in range(grade)), reverse=True)
    below = sorted((lowest * rng.random() ** 2 for _ in range(4 - grade)), reverse=True)
    outputs = [1.0, *above, *below]
    saliency = np.array([rng.random() for _ in range(49)], np.float16)
    return {
        "status": Status.GRADED,
        "grade": grade,
        **{f"p_ge{k}": output for k, output in enumerate(outputs)},
        "referable": grade >= 2,
        "flags": "no_evidence" if rng.random() < 0.01 else "",
        "saliency": (saliency / saliency.max()).tobytes(),
        "model_id": MANIFEST.model_id,
        "overlay_key": f"{name}/{MANIFEST.model_id}/{image_id}.png",
        "error_code": None,
        "error_detail": None,
    }


def _ungraded(rng: random.Random) -> dict[str, Any]:
    failed = rng.random() < 0.3
    empty = dict.fromkeys(
        ("grade", *(f"p_ge{k}" for k in range(5)), "referable", "flags", "saliency", "model_id", "overlay_key")
    )
    return empty | {
        "status": Status.FAILED if failed else Status.UNGRADABLE,
        "error_code": rng.choice(FAILURES if failed else REASONS),
        "error_detail": "why",
    }
