from sqlalchemy import Engine, select, update

from tests.unit.worker.console.accounts_and_runs import add_session_user
from worker.console.sessions import (
    MAX_AGE_S,
    MAX_IDLE_S,
    begin_session,
    end_session,
    find_session_user,
    is_form_token,
    new_token,
)
from worker.core.vocabulary import Role
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.review_schema import sessions


def begin(engine: Engine, name: str) -> str:
    with write_transaction(engine) as connection:
        return begin_session(connection, name)


def age(engine: Engine, *, idle_s: float = 0, old_s: float = 0) -> None:
    with write_transaction(engine) as connection:
        connection.execute(
            update(sessions).values(seen_at=sessions.c.seen_at - idle_s, began_at=sessions.c.began_at - old_s)
        )


def seen_at(engine: Engine) -> float:
    with read_transaction(engine) as connection:
        return float(connection.execute(select(sessions.c.seen_at)).scalar_one())


def test_session_belongs_to_its_user_and_the_ledger_stores_no_token(engine: Engine) -> None:
    add_session_user(engine, "anna", Role.GRADER)
    token = begin(engine, "anna")
    found = find_session_user(engine, token)
    assert found is not None
    assert (found.name, found.role) == ("anna", Role.GRADER)
    assert token not in repr(found)
    with read_transaction(engine) as connection:
        assert token not in str(connection.execute(select(sessions)).all())


def test_unknown_token_has_no_user(engine: Engine) -> None:
    add_session_user(engine, "anna")
    begin(engine, "anna")
    assert find_session_user(engine, new_token()) is None
    assert find_session_user(engine, "") is None


def test_idle_session_expires(engine: Engine) -> None:
    add_session_user(engine, "anna")
    token = begin(engine, "anna")
    age(engine, idle_s=MAX_IDLE_S - 60)
    assert find_session_user(engine, token, background=True) is not None
    age(engine, idle_s=61)
    assert find_session_user(engine, token) is None


def test_background_requests_do_not_extend_a_session(engine: Engine) -> None:
    add_session_user(engine, "anna")
    token = begin(engine, "anna")
    age(engine, idle_s=600)
    before = seen_at(engine)
    find_session_user(engine, token, background=True)
    assert seen_at(engine) == before
    find_session_user(engine, token)
    assert seen_at(engine) > before + 590


def test_session_expires_at_its_maximum_age(engine: Engine) -> None:
    add_session_user(engine, "anna")
    token = begin(engine, "anna")
    age(engine, old_s=MAX_AGE_S + 1)
    assert find_session_user(engine, token) is None
    begin(engine, "anna")
    with read_transaction(engine) as connection:
        assert len(connection.execute(select(sessions)).all()) == 1


def test_sign_out_invalidates_the_token(engine: Engine) -> None:
    add_session_user(engine, "anna")
    token = begin(engine, "anna")
    with write_transaction(engine) as connection:
        end_session(connection, token)
    assert find_session_user(engine, token) is None


def test_form_token_belongs_to_one_session(engine: Engine) -> None:
    first, second = new_token(), new_token()
    own = add_session_user(engine, "anna").form_token
    assert not is_form_token(own, first)
    assert not is_form_token("", first)
    assert not is_form_token("é", second)
    assert is_form_token(own, "token")
