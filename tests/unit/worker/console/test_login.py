from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, update

from tests.unit.worker.console.accounts_and_runs import PASSWORD, add_session_user, add_users
from worker.console import login
from worker.console.login import PER_NAME_AND_ADDRESS, WINDOW_S, TooManyAttemptsError, sign_in
from worker.console.sessions import find_session_user
from worker.core.vocabulary import Role
from worker.ledger.audit_log import read_audit_log
from worker.ledger.database import write_transaction
from worker.ledger.review_schema import MAX_USER_CHARS, sign_in_attempts

HERE, THERE = "10.0.0.1", "10.0.0.2"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace hashing, which is slow: the only valid password is `right`."""
    monkeypatch.setattr(login, "verify_password", lambda given, kept: given == "right" and kept is not None)


def attempts(engine: Engine, count: int, name: str = "anna", address: str = HERE) -> list[str]:
    """Return the results of `count` attempts with a wrong password."""
    found = []
    for _ in range(count):
        try:
            found.append("in" if sign_in(engine, name, "wrong", address) else "wrong")
        except TooManyAttemptsError:
            found.append("too many")
    return found


def test_right_password_starts_a_session_and_every_attempt_is_recorded(engine: Engine) -> None:
    add_users(engine, anna=Role.GRADER)
    assert sign_in(engine, "anna", "not this one", HERE) is None
    assert sign_in(engine, "typed-my-password-here", "x", HERE) is None
    token = sign_in(engine, "anna", PASSWORD, HERE)
    assert token is not None
    found = find_session_user(engine, token)
    assert found is not None
    assert found.name == "anna"
    entries = [entry for entry in read_audit_log(engine, run=None, last=9) if entry["action"] == "sign_in"]
    assert [(entry["actor"].split(" in ")[0], entry["details"]) for entry in entries] == [
        ("anna", {"accepted": False, "address": HERE}),
        ("unknown", {"accepted": False, "address": HERE}),
        ("anna", {"accepted": True, "address": HERE}),
    ]
    assert "typed-my-password-here" not in str(entries)


@pytest.mark.usefixtures("quick")
def test_name_longer_than_any_users_does_not_match_by_its_beginning(engine: Engine) -> None:
    longest = "a" * MAX_USER_CHARS
    add_users(engine, **{longest: Role.GRADER})
    assert sign_in(engine, f"{longest}b", "right", HERE) is None
    assert attempts(engine, PER_NAME_AND_ADDRESS, name=longest) == ["wrong"] * PER_NAME_AND_ADDRESS
    assert sign_in(engine, f"{longest}c", "right", HERE) is None


@pytest.mark.usefixtures("quick")
def test_sixth_attempt_is_refused_before_its_password_is_verified(engine: Engine) -> None:
    add_session_user(engine, "anna")
    assert attempts(engine, 7) == ["wrong"] * PER_NAME_AND_ADDRESS + ["too many"] * 2
    with pytest.raises(TooManyAttemptsError, match="try again in 15 minutes"):
        sign_in(engine, "anna", "right", HERE)
    assert sign_in(engine, "anna", "right", THERE) is not None


@pytest.mark.usefixtures("quick")
def test_refused_attempts_do_not_extend_the_lockout(engine: Engine) -> None:
    add_session_user(engine, "anna")
    attempts(engine, 5)
    with write_transaction(engine) as connection:
        connection.execute(update(sign_in_attempts).values(at=sign_in_attempts.c.at - WINDOW_S + 5))
    attempts(engine, 20)
    with write_transaction(engine) as connection:
        connection.execute(update(sign_in_attempts).values(at=sign_in_attempts.c.at - 6))
    assert sign_in(engine, "anna", "right", HERE) is not None


@pytest.mark.usefixtures("quick")
def test_success_clears_earlier_attempts(engine: Engine) -> None:
    add_session_user(engine, "anna")
    for _ in range(3):
        attempts(engine, 4)
        assert sign_in(engine, "anna", "right", HERE) is not None


@pytest.mark.usefixtures("quick")
def test_attempts_per_address_are_limited(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "PER_ADDRESS", 6)
    tried = [outcome for number in range(8) for outcome in attempts(engine, 1, name=f"user{number}")]
    assert tried == ["wrong"] * 6 + ["too many"] * 2


@pytest.mark.usefixtures("quick")
def test_attempts_per_name_are_limited(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "PER_NAME", 6)
    tried = [outcome for number in range(8) for outcome in attempts(engine, 1, address=f"10.0.1.{number}")]
    assert tried == ["wrong"] * 6 + ["too many"] * 2


@pytest.mark.usefixtures("quick")
def test_concurrent_attempts_count_each_other(engine: Engine) -> None:
    add_session_user(engine, "anna")
    with ThreadPoolExecutor(8) as threads:
        tried = [outcome for one in threads.map(lambda _: attempts(engine, 1), range(16)) for outcome in one]
    assert tried.count("wrong") <= PER_NAME_AND_ADDRESS
    assert tried.count("too many") == 16 - tried.count("wrong")
