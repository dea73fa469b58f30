"""What the steps of an image know about its chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.inference.activity_tracker import ChunkActivity
    from worker.ledger.leases import Lease


@dataclass(frozen=True, slots=True)
class ChunkInFlight:
    """A leased chunk. urgent: its images go first at every step."""

    lease: Lease
    activity: ChunkActivity
    urgent: bool
