"""The words that the ledger, the messages and the screens share."""

from enum import IntEnum, StrEnum


class Status(StrEnum):
    """What became of one image in one run. All but `QUEUED` are final."""

    QUEUED = "queued"
    GRADED = "graded"
    UNGRADABLE = "ungradable"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"


class RunState(StrEnum):
    """Where a run stands; `OPEN` until its last image is registered."""

    OPEN = "open"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"


class RunKind(StrEnum):
    """Who asked for a run; the nightly job looks only at earlier nightly runs."""

    MANUAL = "manual"
    NIGHTLY = "nightly"


class Action(StrEnum):
    """What the audit trail tells of."""

    ENQUEUE = "enqueue"
    """A source is read into a run; `SEAL` follows when all of it was."""
    NIGHTLY = "nightly"
    """The same, for the run of a night."""
    SEAL = "seal"
    CANCEL = "cancel"
    RESEND = "resend"
    EXPORT = "export"
    REGISTER_MODEL = "register_model"
    """A worker came with a model that the ledger did not know."""


class Queue(StrEnum):
    """The broker's queues: `LIVE` for a clinic that waits, `BULK` for the night."""

    LIVE = "live"
    BULK = "bulk"


class Eye(StrEnum):
    """Laterality: right (OD), left (OS)."""

    RIGHT = "right"
    LEFT = "left"
    UNKNOWN = "unknown"


class Grade(IntEnum):
    """International Clinical Diabetic Retinopathy severity (Wilkinson et al. 2003)."""

    NO_DR = 0
    MILD = 1
    MODERATE = 2
    SEVERE = 3
    PROLIFERATIVE = 4


REFERABLE_FROM = Grade.MODERATE
"""Referable DR is this grade or worse. Macular oedema is not judged."""


class Flag(StrEnum):
    """A remark on a graded image that a reader should know of."""

    NO_OUTPUT_PASSED = "no_output_passed"
    NOT_MONOTONE = "not_monotone"
    NO_EVIDENCE = "no_evidence"
    """The saliency is zero everywhere: nothing in the photograph speaks for the grade."""
