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


class AuditAction(StrEnum):
    """What the audit trail tells of."""

    ENQUEUE = "enqueue"
    """A source is read into a run; `SEAL` follows when all of it was."""
    NIGHTLY = "nightly"
    """The same, for the run of a night."""
    SEAL = "seal"
    CANCEL = "cancel"
    RESEND = "resend"
    EXPORT = "export"
    HOLD = "hold"
    """Retention is to pass the run over; `RELEASE` ends it."""
    RELEASE = "release"
    RETIRE_OVERLAYS = "retire_overlays"
    """Retention: from here on the rows claim no overlay, and the objects are deleted."""
    DELETE_ROWS = "delete_rows"
    """Retention: outcomes, and the images that have no other."""
    REGISTER_MODEL = "register_model"
    """A worker came with a model that the ledger did not know."""
    CHANGE_USER = "change_user"
    """Somebody may use the console from now on, or no longer, or as another role, or with another password."""
    SIGN_IN = "sign_in"
    """Somebody signed in to the console, or was refused."""
    SIGN_OUT = "sign_out"
    DECIDE = "decide"
    """A person read an image and decided on its grade."""
    SET_READERS = "set_readers"
    """How many people must read each image of a run."""


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

THRESHOLD_MARGIN = 0.1
"""An output so near to its threshold might as well be on the other side."""


class Flag(StrEnum):
    """A remark on a graded image that a reader should know of."""

    NO_OUTPUT_PASSED = "no_output_passed"
    NOT_MONOTONE = "not_monotone"
    NO_EVIDENCE = "no_evidence"
    """The saliency is zero everywhere: nothing speaks for the output that is explained, though it is passed."""


class Role(StrEnum):
    """What a person may do in the console; all may look."""

    VIEWER = "viewer"
    GRADER = "grader"
    """Decides on grades."""
    OPERATOR = "operator"
    """Sets how many must read an image; does not decide."""


class DecisionKind(StrEnum):
    """As what a person decided."""

    READING = "reading"
    ARBITRATION = "arbitration"
    """The word of a third person where two readers differ."""


class ReviewState(StrEnum):
    """Where the reading of one image by people stands."""

    UNREAD = "unread"
    HALF_READ = "half_read"
    """The first of two readers has decided."""
    DISPUTED = "disputed"
    """Two readers differ, and nobody has arbitrated."""
    READ = "read"
    ARBITRATED = "arbitrated"
