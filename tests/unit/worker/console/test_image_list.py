"""Lists and filters of the console compared with plain SQL."""

import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest
from sqlalchemy import Engine, insert, select, text, update

from tests.unit.producer.ledger_rows import MODEL, NOON, add_model, make_run
from tests.unit.worker.console.accounts_and_runs import add_session_user, graded_run
from worker.console.filters import URGENCY, ImageFilter, parse_filter
from worker.console.image_detail import read_image_detail
from worker.console.image_list import PAGE_IMAGES, find_neighbours, read_page
from worker.console.review_queue import lease_next_image
from worker.core.vocabulary import Eye, ReviewState, Status
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.review_schema import reviews
from worker.ledger.runs import Run, find_run
from worker.ledger.schema import gradings, images, models, runs

SQL = {
    "": "true",
    "grade=3": "g.grade = 3",
    "status=ungradable": "g.status = 'ungradable'",
    "status=queued": "g.status = 'queued'",
    "eye=left": "i.eye = 'left'",
    "referable=yes": "g.status = 'graded' AND g.grade >= 2",
    "referable=no": "g.status = 'graded' AND g.grade < 2",
    "disagreement=yes": "r.differs OR i.reference_grade <> g.grade",
    "unsure=yes": "g.grade < 2 AND g.p_ge2 > 0.395 OR g.flags NOT IN ('', 'no_output_passed')",
    "review=read": "r.state = 'read'",
    "review=unread": "r.state IS NULL OR r.state = 'unread'",
    "q=0011": "i.image_id LIKE '%0011%'",
    "q=RIGHT-eye-7": "i.patient_id = 'Right-eye-7'",
    "q=100%25": "i.patient_id = '100%'",
    "grade=2&eye=right&disagreement=yes": "g.grade = 2"
    " AND i.eye = 'right' AND (r.differs OR i.reference_grade <> g.grade)",
}


def mixed_run(engine: Engine) -> Run:
    """Return a run of 230 images with every kind that a filter selects; the seed makes it reproducible."""
    rng = random.Random(7)
    run = graded_run(engine, [rng.choice([0, 0, 1, 2, 3, 4, None]) for _ in range(230)])
    with write_transaction(engine) as connection:
        for number in range(230):
            image_id = f"{number:05d}"
            connection.execute(
                update(images)
                .where(images.c.image_id == image_id)
                .values(
                    eye=rng.choice(list(Eye)),
                    reference_grade=rng.choice([None, 0, 2, 4]),
                    patient_id={7: "Right-eye-7", 8: "Right_eye_7", 9: "100%", 10: "1000"}.get(number),
                )
            )
            if number % 3 == 0:
                state = rng.choice([ReviewState.UNREAD, ReviewState.READ, ReviewState.DISPUTED])
                connection.execute(
                    insert(reviews).values(
                        run_id=run.run_id, image_id=image_id, state=state, differs=rng.random() < 0.3
                    )
                )
            if number % 5 == 0:
                connection.execute(
                    update(gradings)
                    .where(gradings.c.image_id == image_id, gradings.c.status == Status.GRADED)
                    .values(p_ge2=0.5, flags=rng.choice(["", "not_monotone"]))
                )
    return run


def walk(engine: Engine, run: Run, image_filter: ImageFilter) -> list[str]:
    """Return the ids of all pages forwards, and check that paging backwards gives the same pages."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    pages = []
    while True:
        page = read_page(engine, run.run_id, image_filter, cursor)
        pages.append([row.image_id for row in page.rows])
        found += pages[-1]
        if page.after is None:
            break
        cursor = {"after": page.after}
    back, before = [pages[-1]], page.before
    while before is not None:
        page = read_page(engine, run.run_id, image_filter, {"before": before})
        back.append([row.image_id for row in page.rows])
        before = page.before
    assert [image_id for some in reversed(back) for image_id in some] == found
    return found


def test_every_filter_matches_sql(engine: Engine) -> None:
    run = mixed_run(engine)
    for query, condition in SQL.items():
        statement = (
            "SELECT g.image_id FROM gradings g JOIN images i ON i.image_id = g.image_id"
            " LEFT JOIN reviews r ON r.run_id = g.run_id AND r.image_id = g.image_id"
            f" WHERE g.run_id = {run.run_id} AND ({condition}) ORDER BY g.image_id"
        )
        with read_transaction(engine) as connection:
            expected = list(connection.scalars(text(statement)))
        image_filter = parse_filter(dict(parse_qsl(query)))
        assert walk(engine, run, image_filter) == expected, query
        assert read_page(engine, run.run_id, image_filter, {}).count == len(expected)
        assert image_filter.query == query
        if query and query != "status=queued":
            assert 0 < len(expected) < 230, query


def test_pseudonym_of_a_searched_patient_is_found(engine: Engine) -> None:
    run = graded_run(engine, [2, 2])
    with write_transaction(engine) as connection:
        connection.execute(update(images).where(images.c.image_id == "00001").values(patient_id="3f5a"))
    assert walk(engine, run, ImageFilter(q="P-17", pseudonym="3f5a")) == ["00001"]
    assert ImageFilter(q="P-17", pseudonym="3f5a").query == "q=P-17"


@pytest.mark.parametrize("image_filter", [ImageFilter(sort=URGENCY), ImageFilter(sort=URGENCY, eye=Eye.LEFT)])
def test_most_urgent_images_are_first_in_that_order(engine: Engine, image_filter: ImageFilter) -> None:
    run = mixed_run(engine)
    change_status(engine, "00003", Status.FAILED)
    change_status(engine, "00004", Status.CANCELLED)
    with read_transaction(engine) as connection:
        query = select(gradings.c.image_id, gradings.c.status, gradings.c.grade, images.c.eye)
        rows = list(connection.execute(query.join(images, images.c.image_id == gradings.c.image_id)))
    order = [("graded", 4), ("graded", 3), ("graded", 2), ("ungradable", None), ("failed", None), ("graded", 1),
             ("graded", 0), ("cancelled", None)]  # fmt: skip
    rows = [row for row in rows if image_filter.eye in (None, row.eye)]
    rows.sort(key=lambda row: (order.index((row.status, row.grade)), row.image_id))
    expected = [row.image_id for row in rows]
    assert walk(engine, run, image_filter) == expected
    for place in (0, 60, len(expected) - 1):
        around = (None, *expected, None)
        neighbours = find_neighbours(engine, run.run_id, image_filter, expected[place])
        assert neighbours == (around[place], around[place + 2])


@pytest.mark.parametrize("cursor", ["x", "9.00000", "-1.00000", "99999999999.0", "\u0661.0"])
def test_malformed_position_shows_the_first_page(engine: Engine, cursor: str) -> None:
    run = graded_run(engine, [2, 4])
    page = read_page(engine, run.run_id, ImageFilter(sort=URGENCY), {"after": cursor})
    assert [row.image_id for row in page.rows] == ["00001", "00000"]


def change_status(engine: Engine, image_id: str, status: Status) -> None:
    empty = {"grade": None, "referable": None, "overlay_key": None, "saliency": None, "model_id": None}
    with write_transaction(engine) as connection:
        connection.execute(
            update(gradings).where(gradings.c.image_id == image_id).values(status=status, error_code="x", **empty)
        )


def test_neighbours_match_the_filter(engine: Engine) -> None:
    run = graded_run(engine, [2, 0, 2, 0, 2])
    assert find_neighbours(engine, run.run_id, ImageFilter(), "00002") == ("00001", "00003")
    assert find_neighbours(engine, run.run_id, ImageFilter(grade=2), "00002") == ("00000", "00004")
    assert find_neighbours(engine, run.run_id, ImageFilter(grade=2), "00004") == ("00002", None)


def test_full_last_page_has_no_next(engine: Engine) -> None:
    run = graded_run(engine, [0] * PAGE_IMAGES)
    page = read_page(engine, run.run_id, ImageFilter(), {})
    assert (len(page.rows), page.before, page.after) == (PAGE_IMAGES, None, None)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"grade": "5"}, "grade must be one of 0, 1, 2, 3, 4"),
        ({"grade": "1 OR 1=1"}, "grade must be one of"),
        ({"status": "lost"}, "status must be one of queued, graded"),
        ({"eye": "third"}, "eye must be one of right, left, unknown"),
        ({"referable": "maybe"}, "referable must be one of yes, no"),
        ({"sort": "name"}, "sort must be one of urgency"),
        ({"q": "x" * 129}, "q must be text of at most 128 characters"),
        ({"review": "x"}, "review must be one of unread"),
    ],
)
def test_unknown_filter_value_is_refused(query: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_filter(query)


def test_image_of_another_run_is_not_found(engine: Engine) -> None:
    graded_run(engine, [2])
    assert read_image_detail(engine, "night", "00001") is None
    assert read_image_detail(engine, "day", "00000") is None
    found = read_image_detail(engine, "night", "00000")
    assert found is not None
    assert found.model_result == f"graded:2:{MODEL}"


def fill(engine: Engine, count: int) -> Run:
    """Insert a run: one image in 20 referable, one in 50 ungradable, one in 100 with a changed grade."""
    add_model(engine)
    make_run(engine, "big", [])
    run = find_run(engine, "big")
    rng = random.Random(3)
    with write_transaction(engine) as connection:
        for start in range(0, count, 10_000):
            names = [f"{number:07d}" for number in range(start, min(start + 10_000, count))]
            connection.execute(
                insert(images),
                [{"image_id": n, "uri": f"file:///{n}.jpg", "eye": "left", "registered_at": NOON} for n in names],
            )
            rows = []
            for position, name in enumerate(names, start=start):
                grade = rng.choice([2, 3, 4]) if position % 20 == 0 else rng.choice([0, 1])
                row = {
                    "run_id": run.run_id, "image_id": name, "position": position, "due_at": 0.0, "settled_at": NOON,
                    "status": "graded", "grade": grade, "referable": grade >= 2, "flags": "", "saliency": bytes(98),
                    "model_id": MODEL, "overlay_key": f"big/{name}.png", "error_code": None,
                    **{f"p_ge{k}": 0.9 if k <= grade else 0.1 for k in range(5)},
                }  # fmt: skip
                if position % 50 == 7:
                    row |= dict.fromkeys(("grade", "referable", "saliency", "overlay_key"))
                    row |= {"status": "ungradable", "error_code": "blurred"}
                rows.append(row)
            connection.execute(insert(gradings), rows)
            connection.execute(
                insert(reviews),
                [
                    {"run_id": run.run_id, "image_id": n, "state": "read", "differs": True, "grade": 4}
                    for n in names[::100]
                ],
            )
    return run


@pytest.mark.slow
def test_next_of_100_000_images_is_fast(engine: Engine) -> None:
    run = fill(engine, 100_000)
    anna = add_session_user(engine, "anna")
    times = {}
    for left, condition in (("all", "false"), ("the last", "image_id <> '0099999'")):
        with write_transaction(engine) as connection:
            connection.execute(
                text(
                    "INSERT INTO reviews (run_id, image_id, state, differs) SELECT run_id, image_id, 'read', false"
                    f" FROM gradings WHERE {condition} AND NOT EXISTS (SELECT 1 FROM reviews r"
                    " WHERE r.run_id = gradings.run_id AND r.image_id = gradings.image_id)"
                )
            )
            connection.execute(update(reviews).values(leased_by=None, leased_until=None, state="read"))
            if left == "all":
                connection.execute(update(reviews).values(state="unread"))
            else:
                connection.execute(update(reviews).where(reviews.c.image_id == "0099999").values(state="unread"))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")
        began = time.perf_counter()
        served = lease_next_image(engine, run, anna, default_readers=1)
        times[left] = time.perf_counter() - began
        assert served is not None
    assert served == "0099999"
    print({left: f"{1000 * seconds:.0f} ms" for left, seconds in times.items()})  # noqa: T201 - the measurement
    assert max(times.values()) < 2.0


def test_low_confidence_uses_the_thresholds_of_the_runs_model(engine: Engine) -> None:
    run = graded_run(engine, [1, 1, 1])
    with write_transaction(engine) as connection:
        connection.execute(update(runs).where(runs.c.run_id == run.run_id).values(model_id=MODEL))
        connection.execute(
            update(models)
            .where(models.c.model_id == MODEL)
            .values(document={"thresholds": [0.5, 0.36, 0.16, 0.5, 0.5]})
        )
        for number, score in enumerate((0.12, 0.05, 0.01)):
            connection.execute(
                update(gradings)
                .where(gradings.c.image_id == f"{number:05d}")
                .values(p_ge1=0.9, p_ge2=score, p_ge3=0.01, p_ge4=0.0, flags="")
            )
    page = read_page(engine, run.run_id, parse_filter({"unsure": "yes"}), {})
    assert [row.image_id for row in page.rows] == ["00000"]
    seen = [read_image_detail(engine, run.name, f"{number:05d}") for number in range(3)]
    assert [image.unsure for image in seen if image is not None] == [True, False, False]
    assert [image.thresholds for image in seen if image is not None] == 3 * [(0.5, 0.36, 0.16, 0.5, 0.5)]


@pytest.mark.parametrize("document", [{}, {"thresholds": [0.5, 0.3]}, {"thresholds": ["half"] * 5}])
def test_thresholds_default_to_one_half(engine: Engine, document: dict[str, Any]) -> None:
    run = graded_run(engine, [1])
    with write_transaction(engine) as connection:
        connection.execute(update(models).where(models.c.model_id == MODEL).values(document=document))
    image = read_image_detail(engine, run.name, "00000")
    assert image is not None
    assert image.thresholds == (0.5,) * 5


@pytest.mark.slow
def test_pages_of_100_000_images_are_fast(engine: Engine, record_property: Callable[[str, object], None]) -> None:
    run = fill(engine, 100_000)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    slowest: dict[str, float] = {}
    for query in ("", "grade=3", "status=ungradable", "disagreement=yes", "unsure=yes", "review=read", "eye=right"):
        image_filter = parse_filter(dict(parse_qsl(query)))
        for cursor in ({}, {"after": "0050000"}, {"before": "0099999"}):
            began = time.perf_counter()
            read_page(engine, run.run_id, image_filter, cursor)
            slowest[query] = max(slowest.get(query, 0), time.perf_counter() - began)
    print({query: f"{1000 * seconds:.0f} ms" for query, seconds in slowest.items()})  # noqa: T201 - the measurement
    record_property("slowest", slowest)
    assert max(slowest.values()) < 1.0
