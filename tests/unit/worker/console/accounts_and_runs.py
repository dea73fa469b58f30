"""Accounts and graded runs for the tests of the console."""

from collections.abc import Sequence
from functools import cache

from argon2 import PasswordHasher
from sqlalchemy import Engine, insert, update

from tests.unit.producer.ledger_rows import NOON, add_model, fail, grade, make_run, references
from worker.console.sessions import SessionUser
from worker.core.vocabulary import Role, Status
from worker.ledger.database import write_transaction
from worker.ledger.review_schema import users
from worker.ledger.runs import Run
from worker.ledger.schema import gradings

PASSWORD = "a long enough one"


def add_session_user(engine: Engine, name: str, role: Role = Role.GRADER) -> SessionUser:
    """Insert a user without a usable password, to avoid the cost of hashing, and return the session user."""
    with write_transaction(engine) as connection:
        connection.execute(insert(users).values(name=name, role=role, password_hash="none", created_at=NOON))
    return SessionUser(name, role, "token")


def add_users(engine: Engine, **roles: Role) -> None:
    """Insert users with the password PASSWORD, hashed with low cost."""
    with write_transaction(engine) as connection:
        for name, role in roles.items():
            connection.execute(insert(users).values(name=name, role=role, password_hash=_hashed(), created_at=NOON))


@cache
def _hashed() -> str:
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


def graded_run(engine: Engine, grades: Sequence[int | None], name: str = "night") -> Run:
    """Insert a run of images `00000`, `00001`, ... with these grades; None is ungradable."""
    with_model = name == "night"
    if with_model:
        add_model(engine)
    names = [f"{number:05d}" for number in range(len(grades))]
    run = make_run(engine, name, references(*names))
    for image_id, given in zip(names, grades, strict=True):
        if given is None:
            fail(engine, run, image_id, "blurred", Status.UNGRADABLE)
        else:
            grade(engine, run, image_id, given)
    return run


def grade_all(engine: Engine, run: Run, given: int) -> None:
    """Grade every image of the run in one statement."""
    outputs = {f"p_ge{k}": 0.9 if k <= given else 0.1 for k in range(5)}
    with write_transaction(engine) as connection:
        connection.execute(
            update(gradings)
            .where(gradings.c.run_id == run.run_id)
            .values(
                status=Status.GRADED, grade=given, **outputs, referable=given >= 2, flags="", saliency=bytes(98),
                model_id="0123456789abcdef", overlay_key="night/x.png", settled_at=NOON,
            )
        )  # fmt: skip
