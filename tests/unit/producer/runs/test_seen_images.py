"""What a night takes, by the version of each image that its programme has had."""

from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Engine, delete, select, update

from tests.unit.producer.ledger_rows import change, make_night, make_run, rows_of
from worker.core.manifests.image_reference import ImageReference
from worker.core.vocabulary import Status
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.schema import gradings, images, nights, seen_images

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def eye(name: str, etag: str | None) -> ImageReference:
    return ImageReference(f"s3://clinic/{name}.jpg", name, etag=etag)


def taken(engine: Engine, day: int, *images: ImageReference, programme: str = "nightly") -> list[str]:
    return list(rows_of(engine, make_night(engine, day, images, programme)))


def test_changed_image_is_taken_again_and_unchanged_is_not(engine: Engine) -> None:
    assert taken(engine, 1, eye("a", "one"), eye("b", "one")) == ["a", "b"]
    assert taken(engine, 2, eye("a", "one"), eye("b", "two")) == ["b"]
    assert taken(engine, 3, eye("a", "one"), eye("b", "two")) == []


def test_checksum_of_a_manifest_tells_a_change_too(engine: Engine) -> None:
    told = replace(eye("a", None), sha256="0" * 64)
    assert taken(engine, 1, told) == ["a"]
    assert taken(engine, 2, told) == []
    assert taken(engine, 3, replace(told, sha256="1" * 64)) == ["a"]


def test_change_within_a_night_waits_for_the_next(engine: Engine) -> None:
    assert taken(engine, 1, eye("a", "one")) == ["a"]
    assert taken(engine, 1, eye("a", "two")) == ["a"]
    assert taken(engine, 2, eye("a", "two")) == ["a"]
    assert taken(engine, 3, eye("a", "two")) == []


def test_version_that_was_never_told_is_learnt_and_not_taken_for_a_change(engine: Engine) -> None:
    assert taken(engine, 1, eye("a", None)) == ["a"]
    assert taken(engine, 2, eye("a", "one")) == []
    assert taken(engine, 3, eye("a", None)) == []
    assert taken(engine, 4, eye("a", "two")) == ["a"]


def test_programmes_have_memories_of_their_own(engine: Engine) -> None:
    assert taken(engine, 1, eye("a", "one")) == ["a"]
    assert taken(engine, 1, eye("a", "one"), programme="north") == ["a"]
    assert taken(engine, 2, eye("a", "one"), programme="north") == []


def test_cancelled_image_is_taken_again(engine: Engine) -> None:
    first = make_night(engine, 1, [eye("a", "one")])
    change(engine, first, "a", status=Status.CANCELLED, settled_at=NOW)
    assert taken(engine, 2, eye("a", "one")) == ["a"]


def test_what_retention_deleted_neither_comes_back_nor_leaves_its_reference(engine: Engine) -> None:
    make_night(engine, 1, [eye("a", "one")])
    with write_transaction(engine) as connection:
        connection.execute(delete(gradings))
        connection.execute(delete(images))
    assert taken(engine, 2, eye("a", "one"), eye("b", "one")) == ["b"]
    with read_transaction(engine) as connection:
        assert connection.scalars(select(images.c.image_id)).all() == ["b"]
    assert taken(engine, 3, eye("a", "two")) == ["a"]


def test_closed_night_is_open_again_with_the_first_new_image(engine: Engine) -> None:
    run = make_night(engine, 1, [eye("a", "one")])

    def closed() -> tuple[bool, bool]:
        with read_transaction(engine) as connection:
            row = connection.execute(select(nights).where(nights.c.run_id == run.run_id)).one()
        return row.closed_at is not None, row.told_at is not None

    with write_transaction(engine) as connection:
        connection.execute(update(nights).values(closed_at=NOW, told_at=NOW))
    make_night(engine, 1, [eye("a", "one")])
    assert closed() == (True, True)
    make_night(engine, 1, [eye("a", "one"), eye("b", "one")])
    assert closed() == (False, False)


def test_manual_run_records_no_seen_image(engine: Engine) -> None:
    make_run(engine, "by-hand", [eye("a", "one")])
    with read_transaction(engine) as connection:
        assert connection.execute(select(seen_images)).all() == []
    assert taken(engine, 1, eye("a", "one")) == ["a"]
