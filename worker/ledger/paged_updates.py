"""Update the gradings of a run in pages, so that no transaction locks the ledger for long."""

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, select, update

from worker.core.vocabulary import RunState
from worker.ledger.database import write_transaction
from worker.ledger.runs import Run, lock_run
from worker.ledger.schema import gradings

PAGE_ROWS = 4096


def update_in_pages(
    engine: Engine,
    run: Run,
    condition: ColumnElement[bool],
    values: dict[str, Any],
    on_page: Callable[[Connection, RunState], object] = lambda *_: None,
) -> Iterator[tuple[str, ...]]:
    """Set `values` on the run's rows that meet `condition`, ordered by image id; yield the updated ids of each page.

    A page is committed before it is yielded. on_page: called at the end of each page's transaction with the run's
    state, which no other transaction can change before; it rolls the page back by an exception. Raises DatabaseError.
    """
    after = ""
    while True:
        with write_transaction(engine) as connection:
            state = lock_run(connection, run.run_id)
            of_run = (gradings.c.run_id == run.run_id, condition)
            page = connection.scalars(
                select(gradings.c.image_id)
                .where(*of_run, gradings.c.image_id > after)
                .order_by(gradings.c.image_id)
                .limit(PAGE_ROWS)
            ).all()
            if not page:
                return
            changed = connection.scalars(
                update(gradings)
                # Check the condition again: a worker may have leased a row since the select.
                .where(*of_run, gradings.c.image_id.in_(page))
                .values(values)
                .returning(gradings.c.image_id)
            ).all()
            on_page(connection, state)
        after = page[-1]
        yield tuple(sorted(changed))
