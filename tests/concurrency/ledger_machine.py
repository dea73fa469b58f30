"""State machine that interleaves operations on one ledger at random and checks the ledger after each statement."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import delete, insert, select, text, update

from tests.concurrency.operations import (
    Cancel,
    Complete,
    Enqueue,
    Grade,
    Hold,
    Ledger,
    Reconcile,
    Resend,
    Retain,
    Step,
    finish_everything,
)
from tests.concurrency.sessions import Session, open_engine
from worker.core.vocabulary import RunState, Status
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.runs import ENDED_STATES
from worker.ledger.schema import RECONCILER_LOCK, gradings, images, locks, reports, runs

RUNS = ("one", "two")
IMAGES = ("a", "b", "c", "d")
MODELS = ("model-a", "model-b")
REQUEUEABLE = {Status.FAILED, Status.QUARANTINED}
OUTCOMES = ("graded", "graded", "failed", "released", "lost")

run_names, model_ids = st.sampled_from(RUNS), st.sampled_from(MODELS)
image_tuples = st.lists(st.sampled_from(IMAGES), min_size=1, max_size=3, unique=True).map(tuple)


def _grades(run: str, ids: tuple[str, ...]) -> st.SearchStrategy[Grade]:
    outcomes = st.tuples(*[st.sampled_from(OUTCOMES)] * len(ids))
    return st.builds(Grade, st.just(run), st.just(ids), model_ids, outcomes, st.booleans())


grades = st.tuples(run_names, image_tuples).flatmap(lambda drawn: _grades(*drawn))
enqueues = st.builds(Enqueue, run_names, image_tuples, st.none() | model_ids, st.booleans(), st.booleans())
resends = st.builds(Resend, run_names, st.sampled_from([(Status.FAILED,), (Status.FAILED, Status.QUARANTINED), ()]))
completions = st.builds(Complete, run_names)
# What is listed twice is drawn twice as often.
operations: st.SearchStrategy[Step] = st.sampled_from(
    [
        *(grades, grades, grades, grades, enqueues, enqueues, enqueues, resends, resends, resends, completions),
        *(completions, st.builds(Retain, st.booleans()), st.builds(Reconcile), st.builds(Cancel, run_names)),
        st.builds(Hold, run_names, st.booleans()),
    ]
).flatmap(lambda strategy: strategy)


@dataclass(frozen=True)
class Snapshot:
    """Committed rows: runs by id, gradings by run and image, patients by image."""

    runs: Mapping[int, Any]
    gradings: Mapping[tuple[int, str], Any]
    images: Mapping[str, Any]


class LedgerMachine(RuleBasedStateMachine):
    """Two or three sessions on one ledger. Subclasses set `url` and `ledger`; `executed` counts the statements."""

    url: ClassVar[str]
    ledger: ClassVar[Ledger]
    executed: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.engine = open_engine(self.url)
        self.is_postgresql = self.engine.dialect.name == "postgresql"
        with write_transaction(self.engine) as connection:
            for table in (gradings, reports, images, locks, runs):
                connection.execute(delete(table))
            connection.execute(
                insert(locks).values(name=RECONCILER_LOCK, holder=self.ledger.holder, until=epoch_now() + 10_000)
            )
        self.sessions: list[Session] = []
        self.active: dict[str, Step] = {}
        self.before = self.read()

    @initialize(sessions=st.integers(2, 3), failed=st.lists(st.sampled_from(IMAGES), min_size=1, unique=True))
    def open_sessions(self, sessions: int, failed: list[str]) -> None:
        """Begin with two runs; the images `failed` have an outcome in the first one."""
        for run in RUNS:
            Enqueue(run, IMAGES[:3], None, with_patient=False, with_checksum=False)(self.engine, self.ledger)
        Grade(RUNS[0], tuple(failed), MODELS[0], ("failed",) * len(failed), renews=False)(self.engine, self.ledger)
        self.before = self.read()
        self.sessions = [Session(self.url, f"session-{number}") for number in range(sessions)]

    @rule(number=st.integers(0, 2), statements=st.sampled_from([1, 1, 2, 3, 5]), operation=operations)
    def advance(self, number: int, statements: int, operation: Step) -> None:
        """Start the operation if the session is idle, and execute the next statements of the one that it executes."""
        session = self.sessions[number % len(self.sessions)]
        if session.is_idle:
            self.active[session.name] = operation
            session.start(lambda engine: operation(engine, self.ledger))
        for _ in range(statements):
            if session.is_idle or not self.may_step(session):
                return
            session.step(self.is_waiting)
            type(self).executed += 1
            self.await_unblocked()
            self.keep_the_rules_of_the_ledger()

    @rule(image_id=st.sampled_from(IMAGES))
    def let_time_pass(self, image_id: str) -> None:
        """End the leases of an image and make it due, unless a session has locked its row."""
        if not self.is_postgresql and any(session.in_write for session in self.sessions):
            return
        due = select(gradings.c.run_id).where(gradings.c.image_id == image_id, gradings.c.status == Status.QUEUED)
        with write_transaction(self.engine) as connection:
            unlocked = connection.scalars(due.with_for_update(skip_locked=True)).all()
            connection.execute(
                update(gradings)
                .where(gradings.c.run_id.in_(unlocked), gradings.c.image_id == image_id)
                .values(due_at=epoch_now() - 1)
            )

    @invariant()
    def keep_the_rules_of_the_ledger(self) -> None:
        for session in self.sessions:
            if session.error is not None:
                raise session.error
            deadlocks = [error for error in session.refusals if "deadlock" in str(error)]
            assert not deadlocks, deadlocks
        before, now = self.before, self.read()
        self.before = now
        self.check_state(now)
        self.check_changes(before, now)
        # An operation that has just ended has committed since the last snapshot.
        self.active = {s.name: self.active[s.name] for s in self.sessions if not s.is_idle}

    def check_state(self, now: Snapshot) -> None:
        for (run_id, image_id), row in now.gradings.items():
            run = now.runs[run_id]
            assert run.state != RunState.FINISHED or row.status != Status.QUEUED, ("queued in a finished run", row)
            assert row.status != Status.GRADED or row.model_id == run.model_id, ("graded by another model", row)
            assert image_id in now.images, ("outcome without an image", row)
            if row.overlay_key is not None:
                assert self.has_object(row.overlay_key), ("overlay key without an object", row)

    def check_changes(self, before: Snapshot, now: Snapshot) -> None:
        active = list(self.active.values())
        for run_id, run in before.runs.items():
            after = now.runs[run_id]
            assert run.model_id in (None, after.model_id), ("model changed", run, after)
            assert run.state != RunState.CANCELLED or after.state == RunState.CANCELLED, ("reopened", run, after)
        for image_id, image in before.images.items():
            later = now.images.get(image_id)
            if later is not None:
                assert image.patient_id in (None, later.patient_id), ("patient id lost", image, later)
                assert image.sha256 in (None, later.sha256), ("checksum lost", image, later)
        for key, row in before.gradings.items():
            self.check_row(before.runs[key[0]], row, now.gradings.get(key), active)

    def check_row(self, run: Any, row: Any, later: Any, active: list[Step]) -> None:
        if later is None:
            assert any(isinstance(step, Retain) for step in active), ("deleted without retention", row)
            # A page that has begun is completed if the run is reopened meanwhile.
            is_reopened = any(isinstance(step, Enqueue | Resend) for step in active)
            assert run.state in ENDED_STATES or is_reopened, ("deleted from an active run", run, row)
            assert row.status != Status.QUEUED, ("deleted while queued", row)
            assert not run.held, ("deleted from a held run", run, row)
        elif row.status != Status.QUEUED and later.status == Status.QUEUED:
            assert row.status in REQUEUEABLE, ("requeued", row)
            assert any(isinstance(step, Resend) for step in active), ("requeued without a resend", row)
        elif row.status != Status.QUEUED:
            outcome = (row.status, row.grade, row.model_id, row.settled_at, row.error_code)
            assert outcome == (later.status, later.grade, later.model_id, later.settled_at, later.error_code)

    def teardown(self) -> None:
        try:
            if self.sessions:
                self.end_operations()
                self.finish_all()
        finally:
            for session in self.sessions:
                session.close()
            self.engine.dispose()

    def end_operations(self) -> None:
        """Step the sessions in turn until all operations have ended."""
        for _ in range(2_000):
            if all(session.is_idle for session in self.sessions):
                return
            for session in self.sessions:
                if not session.is_idle and self.may_step(session):
                    session.step(self.is_waiting)
                    type(self).executed += 1
                self.await_unblocked()
                self.keep_the_rules_of_the_ledger()
        raise AssertionError({session.name: session.next_statement for session in self.sessions})

    def finish_all(self) -> None:
        """Every run that was not cancelled can be finished, with an outcome for each of its images."""
        for image_id in IMAGES:
            self.let_time_pass(image_id)
        names = [run.name for run in self.before.runs.values() if run.state != RunState.CANCELLED]
        finish_everything(self.engine, self.ledger, names, IMAGES, MODELS[0])
        self.keep_the_rules_of_the_ledger()
        for run in self.before.runs.values():
            assert run.state in ENDED_STATES, ("never finishes", run)

    def may_step(self, session: Session) -> bool:
        if session.blocked:
            return False
        if self.is_postgresql or not session.begins_write:
            return True
        return not any(other.in_write for other in self.sessions if other is not session)

    def await_unblocked(self) -> None:
        """Let the sessions go on whose lock has become free, up to their next statement."""
        for session in self.sessions:
            if session.blocked and not self.is_waiting(session.backend_pid):
                session.await_signal(self.is_waiting)

    def is_waiting(self, backend_pid: int) -> bool:
        """Whether a connection waits for a lock. A session on SQLite never does: see `may_step`."""
        if not self.is_postgresql:
            return False
        waits = text("SELECT cardinality(pg_blocking_pids(:pid)) > 0")
        with read_transaction(self.engine) as connection:
            return bool(connection.scalar(waits, {"pid": backend_pid}))

    def has_object(self, key: str) -> bool:
        try:
            self.ledger.store.get(key)
        except KeyError:
            return False
        return True

    def read(self) -> Snapshot:
        with read_transaction(self.engine) as connection:
            return Snapshot(
                {row.run_id: row for row in connection.execute(select(runs))},
                {(row.run_id, row.image_id): row for row in connection.execute(select(gradings))},
                {row.image_id: row for row in connection.execute(select(images))},
            )
