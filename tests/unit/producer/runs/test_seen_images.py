"""Which images a night enqueues, by the version that its programme has seen."""

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


def enqueued(engine: Engine, day: int, *images: ImageReference, programme: str = "nightly") -> list[str]:
    return list(rows_of(engine, make_night(engine, day, images, programme)))


def test_only_changed_images_are_enqueued_again(engine: Engine) -> None:
    assert enqueued(engine, 1, eye("a", "one"), eye("b", "one")) == ["a", "b"]
    assert enqueued(engine, 2, eye("a", "one"), eye("b", "two")) == ["b"]
    assert enqueued(engine, 3, eye("a", "one"), eye("b", "two")) == []


def test_changed_checksum_of_a_manifest_is_a_change(engine: Engine) -> None:
    image = replace(eye("a", None), sha256="0" * 64)
    assert enqueued(engine, 1, image) == ["a"]
    assert enqueued(engine, 2, image) == []
    assert enqueued(engine, 3, replace(image, sha256="1" * 64)) == ["a"]


def test_change_within_a_night_is_enqueued_by_the_next(engine: Engine) -> None:
    assert enqueued(engine, 1, eye("a", "one")) == ["a"]
    assert enqueued(engine, 1, eye("a", "two")) == ["a"]
    assert enqueued(engine, 2, eye("a", "two")) == ["a"]
    assert enqueued(engine, 3, eye("a", "two")) == []


def test_first_known_version_is_recorded_and_is_not_a_change(engine: Engine) -> None:
    assert enqueued(engine, 1, eye("a", None)) == ["a"]
    assert enqueued(engine, 2, eye("a", "one")) == []
    assert enqueued(engine, 3, eye("a", None)) == []
    assert enqueued(engine, 4, eye("a", "two")) == ["a"]


def test_programmes_track_images_separately(engine: Engine) -> None:
    assert enqueued(engine, 1, eye("a", "one")) == ["a"]
    assert enqueued(engine, 1, eye("a", "one"), programme="north") == ["a"]
    assert enqueued(engine, 2, eye("a", "one"), programme="north") == []


def test_cancelled_image_is_enqueued_again(engine: Engine) -> None:
    first = make_night(engine, 1, [eye("a", "one")])
    change(engine, first, "a", status=Status.CANCELLED, settled_at=NOW)
    assert enqueued(engine, 2, eye("a", "one")) == ["a"]


def test_image_deleted_by_retention_is_not_enqueued_again(engine: Engine) -> None:
    make_night(engine, 1, [eye("a", "one")])
    with write_transaction(engine) as connection:
        connection.execute(delete(gradings))
        connection.execute(delete(images))
    assert enqueued(engine, 2, eye("a", "one"), eye("b", "one")) == ["b"]
    with read_transaction(engine) as connection:
        assert connection.scalars(select(images.c.image_id)).all() == ["b"]
    assert enqueued(engine, 3, eye("a", "two")) == ["a"]


def test_new_image_reopens_a_closed_night(engine: Engine) -> None:
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
    assert enqueued(engine, 1, eye("a", "one")) == ["a"]
