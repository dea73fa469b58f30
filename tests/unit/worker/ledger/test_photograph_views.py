"""The records of who viewed a photograph: unchangeable, read by run, and deleted by age; on both databases."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select, text
from sqlalchemy.exc import DBAPIError

from tests.unit.producer.ledger_rows import make_run, references
from tests.unit.worker.console.accounts_and_runs import add_session_user
from worker.core.errors import DatabaseError
from worker.core.settings import Settings
from worker.core.vocabulary import Picture
from worker.ledger import photograph_views as views
from worker.ledger.audit_log import read_audit_log
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.legal_hold import set_legal_hold
from worker.ledger.retention import run_retention
from worker.ledger.review_schema import photograph_views


@pytest.fixture
def viewed(engine: Engine) -> Engine:
    """Views of 40, 31 and 29 days ago in each of the runs `night` and `kept`."""
    add_session_user(engine, "anna")
    for run in ("night", "kept"):
        make_run(engine, run, references("a"))
        with write_transaction(engine) as connection:
            for days in (40, 31, 29):
                at = datetime.now(UTC) - timedelta(days=days)
                row = {"at": at, "viewer": "anna", "run": run, "image_id": "a", "picture": "overlay"}
                connection.execute(insert(photograph_views).values(row))
    return engine


def count_of(engine: Engine, run: str) -> int:
    with read_transaction(engine) as connection:
        return len(connection.execute(select(photograph_views).where(photograph_views.c.run == run)).all())


def test_views_are_read_by_run_oldest_first(engine: Engine) -> None:
    add_session_user(engine, "anna")
    for run, image_id in (("night", "a"), ("other", "b"), ("night", "c")):
        views.record_view(engine, viewer="anna", run=run, image_id=image_id, picture=Picture.PHOTOGRAPH)
    entries = list(views.read_views(engine, run="night", last=10))
    assert [(e["viewer"], e["run"], e["image_id"], e["picture"]) for e in entries] == [
        ("anna", "night", "a", "photograph"),
        ("anna", "night", "c", "photograph"),
    ]
    assert abs(datetime.now(UTC) - datetime.fromisoformat(entries[0]["at"])) < timedelta(minutes=1)
    assert [e["image_id"] for e in views.read_views(engine, run=None, last=2)] == ["b", "c"]


def test_view_cannot_be_changed(viewed: Engine) -> None:
    with (
        pytest.raises((DBAPIError, DatabaseError), match="views are never changed"),
        write_transaction(viewed) as connection,
    ):
        connection.execute(text("UPDATE photograph_views SET image_id = 'b'"))


def test_old_views_are_deleted_except_of_held_runs(
    viewed: Engine, make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "PAGE_VIEWS", 1)
    url = viewed.url.render_as_string(hide_password=False)
    settings = make_settings(database_url=url, storage_url=(tmp_path / "store").as_uri(), retain_views_days=30)
    assert run_retention(settings.model_copy(update={"retain_views_days": None})).views == 0
    set_legal_hold(viewed, "kept")
    assert run_retention(settings, dry_run=True).views == 2
    assert run_retention(settings).views == 2
    assert (count_of(viewed, "night"), count_of(viewed, "kept")) == (1, 3)
    deleted = [e["details"] for e in read_audit_log(viewed, run=None, last=99) if e["action"] == "delete_views"]
    assert deleted == [{"views": 1}] * 2
