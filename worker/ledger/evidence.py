"""Read the evidence of a run's saliency maps."""

from sqlalchemy import Engine, select

from worker.ledger.database import read_transaction
from worker.ledger.schema import gradings


def read_referable_evidence(engine: Engine, run_id: int) -> list[float]:
    """Return the evidence, in logits, of the images that the model found referable. Raises DatabaseError.

    Images that a version without evidence graded are left out.
    """
    query = select(gradings.c.evidence).where(
        gradings.c.run_id == run_id, gradings.c.referable, gradings.c.evidence.is_not(None)
    )
    with read_transaction(engine) as connection:
        return [one for one in connection.scalars(query) if one is not None]
