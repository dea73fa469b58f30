"""Inference configurations: what computed each outcome, from the program's version to the device.

A configuration is stored once, and every outcome refers to it. Rows are never changed, because the id is a hash of the
content: a worker that starts with another library, or with other figures in its self-test, has another configuration.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from worker.core.vocabulary import AuditAction
from worker.ledger.audit_log import record_action
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.schema import gradings, inference_configurations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Engine


@dataclass(frozen=True, slots=True)
class InferenceConfiguration:
    """What computes outcomes. `engine`, `precision` and `device` are those of the network.

    libraries: versions by the libraries' names. recipes: preprocessing of the model, JSON types. self_test: agreement
    with the bundle's float32 answers at the worker's start; None for a bundle without golden inputs.
    """

    model_id: str
    program_version: str
    engine: str
    precision: str
    device: str
    libraries: Mapping[str, str]
    recipes: Sequence[Mapping[str, Any]]
    self_test: Mapping[str, Any] | None = None

    @property
    def configuration_id(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the canonical content."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class UsedConfiguration:
    """A configuration of a run and the number of outcomes that it computed."""

    configuration: InferenceConfiguration
    images: int


def register_configuration(engine: Engine, configuration: InferenceConfiguration) -> str:
    """Add the configuration to the ledger unless it is there; return its id. Raises DatabaseError."""
    key, table = configuration.configuration_id, inference_configurations
    with suppress(IntegrityError), write_transaction(engine) as connection:  # another worker may be first
        if connection.execute(select(table.c.configuration_id).where(table.c.configuration_id == key)).first() is None:
            row = asdict(configuration) | {"configuration_id": key, "registered_at": datetime.now(UTC)}
            connection.execute(insert(table).values(row))
            record_action(
                connection,
                AuditAction.REGISTER_CONFIGURATION,
                configuration_id=key,
                model_id=configuration.model_id,
                engine=configuration.engine,
                precision=configuration.precision,
            )
    return key


def read_used_configurations(engine: Engine, run_id: int) -> tuple[list[UsedConfiguration], int]:
    """Return the configurations of a run's outcomes, most images first, and the number of outcomes without one.

    A version before this table records none. Raises DatabaseError.
    """
    images = func.count().label("images")
    counts = (
        select(gradings.c.configuration_id, images)
        .where(gradings.c.run_id == run_id, gradings.c.model_id.is_not(None))
        .group_by(gradings.c.configuration_id)
        .subquery()
    )
    table = inference_configurations
    query = (
        select(counts.c.images, table)
        .outerjoin(table, table.c.configuration_id == counts.c.configuration_id)
        .order_by(counts.c.images.desc(), counts.c.configuration_id)
    )
    with read_transaction(engine) as connection:
        rows = connection.execute(query).all()
    used = [UsedConfiguration(_from_row(row), row.images) for row in rows if row.configuration_id is not None]
    return used, sum(row.images for row in rows if row.configuration_id is None)


def _from_row(row: Any) -> InferenceConfiguration:
    names = InferenceConfiguration.__dataclass_fields__
    return InferenceConfiguration(**{name: getattr(row, name) for name in names})
