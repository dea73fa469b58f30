"""Lease, renew, settle and release images: the worker's part of the ledger, two transactions per chunk."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from sqlalchemy import Float, and_, bindparam, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from worker.core.errors import MessageError, ModelError, ObjectRefusedError, ServiceError
from worker.core.vocabulary import AuditAction, RunState, Status
from worker.ledger.audit_log import record_action
from worker.ledger.completion import finish_if_settled, is_settled
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.outbox import enqueue_outcomes
from worker.ledger.report_leases import is_report_pending
from worker.ledger.schema import OUTPUTS, gradings, images, models, runs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Engine

    from worker.core.messages import GradeChunk
    from worker.core.predictions import Outcome
    from worker.core.vocabulary import Precision, PublicationKind

MODEL_MISMATCH_PAUSE_S = 60.0
MAX_GRADED_SEARCHED = 1000
MAX_PAUSE_DOUBLINGS = 5
"""The pause after a refusal doubles with each one, up to 32 times the pause after a failure of the service."""


@dataclass(frozen=True, slots=True)
class LeasedImage:
    """An image that only this worker may grade now.

    attempts: how often it was leased, including this time. refusals: how often its store refused it.
    """

    image_id: str
    uri: str
    sha256: str | None
    attempts: int
    refusals: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """The leased images of one chunk; may be empty. unknown: number of the chunk's ids that the run does not have.

    source: that of the run, below which its images are named.
    """

    token: str
    run_id: int
    run_name: str
    images: tuple[LeasedImage, ...]
    unknown: int = 0
    source: str = ""


def register_model(engine: Engine, model_id: str, name: str, document: dict[str, Any]) -> None:
    """Add the model to the ledger unless it is there. document: content of model.json. Raises DatabaseError."""
    row = {"model_id": model_id, "name": name, "document": document, "registered_at": datetime.now(UTC)}
    with suppress(IntegrityError), write_transaction(engine) as connection:  # another worker may be first
        if connection.execute(select(models.c.model_id).where(models.c.model_id == model_id)).first() is None:
            connection.execute(insert(models).values(row))
            record_action(connection, AuditAction.REGISTER_MODEL, model_id=model_id, name=name)


def is_suspect(engine: Engine, chunk: GradeChunk) -> bool:
    """Whether the chunk's single image was in flight when a worker died; such an image must be graded alone."""
    if len(chunk.image_ids) > 1:
        return False
    with read_transaction(engine) as connection:
        attempts = connection.execute(
            select(gradings.c.attempts).where(_rows(chunk.run_id, chunk.image_ids), gradings.c.status == Status.QUEUED)
        ).scalar()
    return bool(attempts)


def lease_chunk(
    engine: Engine,
    chunk: GradeChunk,
    *,
    model_id: str,
    precision: Precision | None = None,
    lease_s: float,
    max_attempts: int,
) -> Lease:
    """Lease the images of a chunk that are queued and free. The lease is committed before any image is fetched.

    precision: the one that this worker computes in. An image that was in flight at a crash is skipped in a chunk of
    several images: the reconciler sends it alone. Raises MessageError for an unknown run, ModelError when the run
    belongs to another model or requires another precision, DatabaseError.
    """
    token = str(uuid4())
    with write_transaction(engine) as connection:
        run = _pin_model(connection, chunk, model_id, precision)
        if run.state == RunState.CANCELLED:
            return Lease(token, chunk.run_id, run.name, ())
        refusal = _find_refusal(run, model_id, precision)
        if refusal is None:
            leased = _lease_free_images(connection, chunk, token, lease_s, max_attempts)
            unknown = _count_unknown(connection, chunk) if len(leased) < len(chunk.image_ids) else 0
            return Lease(token, chunk.run_id, run.name, leased, unknown, run.source)
        _record_refusal(connection, chunk, refusal)
    raise refusal


def renew_lease(engine: Engine, lease: Lease, *, lease_s: float) -> None:
    """Extend the lease of the images that are still held. Raises DatabaseError."""
    with write_transaction(engine) as connection:
        connection.execute(
            update(gradings)
            .where(_rows(lease.run_id, [image.image_id for image in lease.images]), _held(lease))
            .values(due_at=epoch_now() + lease_s)
        )


def holds_lease(engine: Engine, lease: Lease, image_id: str) -> bool:
    """Whether no other worker has leased or settled the image since. Raises DatabaseError."""
    with read_transaction(engine) as connection:
        held = select(gradings.c.image_id).where(_rows(lease.run_id, [image_id]), _held(lease))
        return connection.execute(held).first() is not None


def settle_chunk(
    engine: Engine,
    lease: Lease,
    outcomes: Sequence[Outcome],
    released: Mapping[str, ServiceError],
    *,
    model_id: str,
    configuration_id: str | None = None,
    publish: Collection[PublicationKind] = (),
    retry_after_s: float,
) -> int:
    """Write all outcomes and release the other images in one transaction; return the number of rows written.

    configuration_id: what computed the outcomes, see `configurations`.
    released: images that a service failed, with its error. Their attempt is not counted, since the failure is not
    theirs, but an ObjectRefusedError counts as a refusal. retry_after_s: pause until they are sent again.
    publish: what the outbox receives about each outcome.
    Rows whose lease was lost are skipped: the current holder settles them. Raises DatabaseError.
    """
    written = 0
    with write_transaction(engine) as connection:
        if outcomes:
            written += connection.execute(
                _settle_statement(lease), [_settled_row(outcome, model_id, configuration_id) for outcome in outcomes]
            ).rowcount
            enqueue_outcomes(connection, lease.run_id, [outcome.image_id for outcome in outcomes], publish)
        if released:
            written += connection.execute(
                _release_statement(lease), _released_rows(lease, released, retry_after_s)
            ).rowcount
    return written


def find_graded_uri(engine: Engine, run_id: int, store_uri: str) -> str | None:
    """Return the URI of a graded image of the run in this store, or None if the first ones are elsewhere.

    Raises DatabaseError.
    """
    graded = (
        select(gradings.c.image_id)
        .where(gradings.c.run_id == run_id, gradings.c.status == Status.GRADED)
        .limit(MAX_GRADED_SEARCHED)
    )
    query = (
        select(images.c.uri)
        .where(images.c.image_id.in_(graded), images.c.uri.startswith(store_uri, autoescape=True))
        .limit(1)
    )
    with read_transaction(engine) as connection:
        return connection.execute(query).scalar()


def finish_run(engine: Engine, run_id: int, *, report: bool) -> bool:
    """Finish the run if no image is queued; return true to the one caller that must send the message for its report.

    report: whether workers write reports; see `finish_if_settled`. Raises DatabaseError.
    """
    with read_transaction(engine) as connection:
        if not is_settled(connection, run_id):
            return False
    with write_transaction(engine) as connection:
        return finish_if_settled(connection, run_id, report=report) and report and is_report_pending(connection, run_id)


def _pin_model(connection: Connection, chunk: GradeChunk, model_id: str, precision: Precision | None) -> Any:
    """Return the run, after giving it this model if it has none and admits this precision."""
    query = select(runs.c.name, runs.c.state, runs.c.model_id, runs.c.precision, runs.c.source).where(
        runs.c.run_id == chunk.run_id
    )
    run = connection.execute(query).first()
    if run is None:
        raise MessageError(f"the ledger has no run {chunk.run_id}", code="run_unknown")
    if run.model_id is not None or run.precision not in (None, precision):
        return run
    connection.execute(
        update(runs).where(runs.c.run_id == chunk.run_id, runs.c.model_id.is_(None)).values(model_id=model_id)
    )
    return connection.execute(query).one()


def _lease_free_images(
    connection: Connection, chunk: GradeChunk, token: str, lease_s: float, max_attempts: int
) -> tuple[LeasedImage, ...]:
    max_allowed = 1 if len(chunk.image_ids) > 1 else max_attempts
    leased = connection.execute(
        update(gradings)
        .where(
            _rows(chunk.run_id, chunk.image_ids),
            gradings.c.status == Status.QUEUED,
            or_(gradings.c.lease_token.is_(None), gradings.c.due_at < epoch_now()),
            gradings.c.attempts < max_allowed,
        )
        .values(
            attempts=gradings.c.attempts + 1,
            lease_token=token,
            leased_at=datetime.now(UTC),
            due_at=epoch_now() + lease_s,
        )
        .returning(gradings.c.image_id, gradings.c.attempts, gradings.c.refusals)
    ).all()
    counts: dict[str, tuple[int, int]] = {row.image_id: (row.attempts, row.refusals) for row in leased}
    image_rows = connection.execute(
        select(images.c.image_id, images.c.uri, images.c.sha256).where(images.c.image_id.in_(counts))
    ).all()
    found = {row.image_id: LeasedImage(row.image_id, row.uri, row.sha256, *counts[row.image_id]) for row in image_rows}
    return tuple(found[image_id] for image_id in chunk.image_ids if image_id in found)


def _count_unknown(connection: Connection, chunk: GradeChunk) -> int:
    requested = set(chunk.image_ids)
    known = connection.scalars(select(gradings.c.image_id).where(_rows(chunk.run_id, chunk.image_ids)))
    return len(requested.difference(known))


def _find_refusal(run: Any, model_id: str, precision: Precision | None) -> ModelError | None:
    """Return why this worker may not grade the run, None if it may."""
    if run.model_id not in (None, model_id):
        detail = f"run {run.name} belongs to model {run.model_id}, this worker has model {model_id}"
        return ModelError(detail, code="model_mismatch")
    if run.precision not in (None, precision):
        detail = (
            f"run {run.name} requires precision {run.precision}, this worker computes in {precision}; fix: start a"
            f" worker with FUNDUS_PRECISION={run.precision}"
        )
        return ModelError(detail, code="precision_mismatch")
    return None


def _record_refusal(connection: Connection, chunk: GradeChunk, refusal: ModelError) -> None:
    connection.execute(
        update(gradings)
        .where(
            _rows(chunk.run_id, chunk.image_ids), gradings.c.status == Status.QUEUED, gradings.c.lease_token.is_(None)
        )
        .values(error_code=refusal.code, error_detail=refusal.detail, due_at=epoch_now() + MODEL_MISMATCH_PAUSE_S)
    )


def _settle_statement(lease: Lease) -> Any:
    row: dict[str, Any] = {name: bindparam(name) for name in _SETTLED_COLUMNS}
    return (
        update(gradings)
        .where(
            gradings.c.run_id == lease.run_id,
            gradings.c.image_id == bindparam("held_image"),
            _held(lease),
        )
        .values(lease_token=None, **row)
    )


def _release_statement(lease: Lease) -> Any:
    return (
        update(gradings)
        .where(gradings.c.run_id == lease.run_id, gradings.c.image_id == bindparam("held_image"), _held(lease))
        .values(
            lease_token=None,
            attempts=gradings.c.attempts - 1,
            refusals=gradings.c.refusals + bindparam("refused"),
            due_at=epoch_now() + bindparam("pause_s", type_=Float),
            error_code=bindparam("error_code"),
            error_detail=bindparam("error_detail"),
        )
    )


def _released_rows(lease: Lease, released: Mapping[str, ServiceError], retry_after_s: float) -> list[dict[str, Any]]:
    refusals = {image.image_id: image.refusals for image in lease.images}
    rows = []
    for image_id, error in released.items():
        refused = isinstance(error, ObjectRefusedError)
        doublings = min(refusals[image_id], MAX_PAUSE_DOUBLINGS) if refused else 0
        rows.append(
            {
                "held_image": image_id,
                "refused": int(refused),
                "pause_s": retry_after_s * 2**doublings,
                "error_code": error.code,
                "error_detail": error.detail,
            }
        )
    return rows


_SETTLED_COLUMNS = (
    "status", "grade", *OUTPUTS, "referable", "flags", "disagreement", "unfamiliarity", "saliency", "evidence",
    "evidence_scale", "model_id", "configuration_id", "overlay_key", "content_sha256", "content_version", "error_code",
    "error_detail", "settled_at",
)  # fmt: skip


def _settled_row(outcome: Outcome, model_id: str, configuration_id: str | None) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(_SETTLED_COLUMNS)
    row |= {
        "held_image": outcome.image_id,
        "status": outcome.status,
        "model_id": model_id,
        "configuration_id": configuration_id,
        "error_code": outcome.error_code,
        "error_detail": outcome.error_detail,
        "settled_at": datetime.now(UTC),
    }
    if outcome.content is not None:
        row |= {"content_sha256": outcome.content.sha256, "content_version": outcome.content.version}
    if outcome.prediction is not None and outcome.decision is not None:
        evidence = outcome.prediction.evidence
        row |= {
            "grade": int(outcome.decision.grade),
            "referable": outcome.decision.referable,
            "flags": ",".join(outcome.decision.flags),
            "disagreement": outcome.prediction.disagreement,
            "unfamiliarity": outcome.prediction.unfamiliarity,
            "saliency": outcome.prediction.saliency.astype(np.float16).tobytes(),
            "evidence": None if evidence is None else evidence.logits,
            "evidence_scale": None if evidence is None else evidence.scale,
            "overlay_key": outcome.overlay_key,
        }
        row |= {name: float(p) for name, p in zip(OUTPUTS, outcome.prediction.probabilities, strict=True)}
    return row


def _rows(run_id: int, image_ids: Sequence[str]) -> ColumnElement[bool]:
    return and_(gradings.c.run_id == run_id, gradings.c.image_id.in_(image_ids))


def _held(lease: Lease) -> ColumnElement[bool]:
    return and_(gradings.c.status == Status.QUEUED, gradings.c.lease_token == lease.token)
