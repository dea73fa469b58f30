import pytest
from sqlalchemy import Engine, select

from tests.unit.worker.console.accounts_and_runs import PASSWORD
from worker.console.accounts import add_user, disable_user, enable_user, list_users, set_password, set_role
from worker.console.login import sign_in
from worker.console.passwords import verify_password
from worker.console.sessions import begin_session, find_session_user
from worker.core.errors import UsageError
from worker.core.vocabulary import Role
from worker.ledger.audit_log import read_audit_log
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.review_schema import users


def test_only_an_argon2id_hash_of_the_password_is_stored(engine: Engine) -> None:
    add_user(engine, "anna", Role.GRADER, PASSWORD)
    with read_transaction(engine) as connection:
        kept = connection.execute(select(users.c.password_hash)).scalar_one()
    assert kept.startswith("$argon2id$")
    assert PASSWORD not in kept
    assert verify_password(PASSWORD, kept)
    assert not verify_password(PASSWORD + "x", kept)
    assert not verify_password("nobody has this password", None)


@pytest.mark.parametrize(
    ("name", "password", "message"),
    [
        ("", PASSWORD, "is invalid: use"),
        ("Anna", PASSWORD, "is invalid: use"),
        ("an na", PASSWORD, "is invalid: use"),
        ("a" * 65, PASSWORD, "at most 64 characters"),
        ("<b>", PASSWORD, "is invalid: use"),
        ("anna", "short", "has 5 characters; it must have 12 to 256"),
        ("anna", "x" * 257, "has 257 characters"),
        ("anna", "anna-anna-12", "contains the user name"),
    ],
)
def test_invalid_name_or_password_is_refused(engine: Engine, name: str, password: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        add_user(engine, name, Role.VIEWER, password)
    assert list_users(engine) == []


def test_name_must_be_unique(engine: Engine) -> None:
    add_user(engine, "anna", Role.VIEWER, PASSWORD)
    with pytest.raises(UsageError, match="user 'anna' already exists"):
        add_user(engine, "anna", Role.OPERATOR, PASSWORD)
    assert [user.role for user in list_users(engine)] == [Role.VIEWER]


def test_every_change_ends_the_sessions_and_is_recorded_in_the_audit_log(engine: Engine) -> None:
    add_user(engine, "anna", Role.VIEWER, PASSWORD)
    changes = (
        lambda: set_role(engine, "anna", Role.GRADER),
        lambda: set_password(engine, "anna", PASSWORD[::-1]),
        lambda: disable_user(engine, "anna"),
    )
    for change in changes:
        with write_transaction(engine) as connection:
            token = begin_session(connection, "anna")
        assert find_session_user(engine, token) is not None
        change()
        assert find_session_user(engine, token) is None
    assert sign_in(engine, "anna", PASSWORD[::-1], "10.0.0.1") is None
    enable_user(engine, "anna")
    assert sign_in(engine, "anna", PASSWORD[::-1], "10.0.0.1") is not None
    entries = [entry for entry in read_audit_log(engine, run=None, last=100) if entry["action"] == "change_user"]
    assert [entry["details"]["change"] for entry in entries] == ["add", "role grader", "password", "disable", "enable"]
    assert PASSWORD not in str(entries)


def test_unknown_user_is_refused(engine: Engine) -> None:
    with pytest.raises(UsageError, match="no user 'ben'; list users with `fundus console user list`"):
        disable_user(engine, "ben")
