"""What a reader did with an image apart from deciding: put it off, or saw what is hidden from readers at first."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, func, select, update

from worker.console.sessions import SessionUser
from worker.ledger.review_schema import reader_images
from worker.ledger.upserts import insert_or_ignore


@dataclass(frozen=True, slots=True)
class ReaderImage:
    """Whether the reader has seen the model's result, and the decisions of other readers."""

    has_seen_result: bool = False
    has_seen_decisions: bool = False


def read_reader_image(connection: Connection, run_id: int, image_id: str, user: SessionUser) -> ReaderImage:
    """Return what a reader has seen of an image."""
    query = select(reader_images.c.result_seen_at, reader_images.c.decisions_seen_at)
    row = connection.execute(query.where(*_of(run_id, image_id, user))).first()
    return ReaderImage() if row is None else ReaderImage(row[0] is not None, row[1] is not None)


def mark_skipped(connection: Connection, run_id: int, image_id: str, user: SessionUser) -> None:
    """Record that the reader put an image off."""
    _insert(connection, run_id, image_id, user)
    connection.execute(update(reader_images).where(*_of(run_id, image_id, user)).values(skipped_at=datetime.now(UTC)))


def mark_seen(
    connection: Connection, run_id: int, image_id: str, user: SessionUser, *, result: bool, decisions: bool
) -> None:
    """Record that the reader sees the model's result, or decisions of others. The first time counts."""
    _insert(connection, run_id, image_id, user)
    now = datetime.now(UTC)
    seen = {"result_seen_at": result, "decisions_seen_at": decisions}
    values = {name: func.coalesce(reader_images.c[name], now) for name, is_seen in seen.items() if is_seen}
    if values:
        connection.execute(update(reader_images).where(*_of(run_id, image_id, user)).values(values))


def _insert(connection: Connection, run_id: int, image_id: str, user: SessionUser) -> None:
    key = {"run_id": run_id, "reader": user.name, "image_id": image_id}
    connection.execute(insert_or_ignore(connection, reader_images).values(key))


def _of(run_id: int, image_id: str, user: SessionUser) -> tuple[ColumnElement[bool], ...]:
    return (
        reader_images.c.run_id == run_id,
        reader_images.c.reader == user.name,
        reader_images.c.image_id == image_id,
    )
