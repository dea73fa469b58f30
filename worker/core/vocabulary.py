"""Enumerations that the ledger, the messages and the user interfaces share."""

from enum import IntEnum, StrEnum


class Status(StrEnum):
    """Status of one image in one run. All but `QUEUED` are final."""

    QUEUED = "queued"
    GRADED = "graded"
    UNGRADABLE = "ungradable"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"


class RunState(StrEnum):
    """State of a run. It is `OPEN` until its last image is registered."""

    OPEN = "open"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"


class RunKind(StrEnum):
    """Origin of a run. The nightly job considers only earlier nightly runs."""

    MANUAL = "manual"
    NIGHTLY = "nightly"


class AuditAction(StrEnum):
    """Action that the audit log records."""

    ENQUEUE = "enqueue"
    """Enqueueing of a source into a run begins; `SEAL` records its end."""
    NIGHTLY = "nightly"
    """Enqueueing into a nightly run begins; `SEAL` records its end."""
    SEAL = "seal"
    CANCEL = "cancel"
    RESEND = "resend"
    EXPORT = "export"
    HOLD = "hold"
    """Retention skips the run from now on; `RELEASE` ends the hold."""
    RELEASE = "release"
    RETIRE_OVERLAYS = "retire_overlays"
    """Retention removes overlay keys from rows and deletes the objects."""
    DELETE_ROWS = "delete_rows"
    """Retention deletes outcomes, and images without another outcome."""
    DELETE_ORPHANS = "delete_orphans"
    """Retention deletes objects that no row knows."""
    ERASE_REASONS = "erase_reasons"
    """Retention empties the reasons of old decisions."""
    DELETE_VIEWS = "delete_views"
    """Retention deletes old records of who viewed a photograph."""
    ERASE = "erase"
    """An operator begins to erase a patient's images from a run; `ERASED` records the end."""
    ERASED = "erased"
    ACCEPT = "accept"
    """A model is accepted or refused for a site, on a labelled run of its photographs."""
    REGISTER_MODEL = "register_model"
    """A worker adds its model, which the ledger did not contain."""
    REGISTER_CONFIGURATION = "register_configuration"
    """A worker adds its inference configuration, which the ledger did not contain."""
    CHANGE_USER = "change_user"
    """A console user is added or removed, or gets another role or password."""
    SIGN_IN = "sign_in"
    """A sign-in to the console succeeds or is refused."""
    SIGN_OUT = "sign_out"
    DECIDE = "decide"
    """A reader decides the grade of an image."""
    WITHDRAW = "withdraw"
    """A reader withdraws an own decision."""
    SET_READERS = "set_readers"
    """The number of readers for each image of a run is set."""
    SET_ASSISTANCE = "set_assistance"
    """It is set which readers of a run see the model's result before they decide."""
    PUBLISH = "publish"
    """A publisher begins to store results of a run where clinicians look; the details count them by kind."""


class Queue(StrEnum):
    """Queue of images: `LIVE` for a waiting clinic, `BULK` for everything else."""

    LIVE = "live"
    BULK = "bulk"


DUTIES = "duties"
"""Queue of beat's duties, which workers of the queue `BULK` do."""
TASK_QUEUES = (*Queue, DUTIES)
"""All queues of the broker that carry tasks."""


class Eye(StrEnum):
    """Laterality: right (OD) or left (OS)."""

    RIGHT = "right"
    LEFT = "left"
    UNKNOWN = "unknown"


class Grade(IntEnum):
    """Severity on the International Clinical Diabetic Retinopathy scale (Wilkinson et al. 2003)."""

    NO_DR = 0
    MILD = 1
    MODERATE = 2
    SEVERE = 3
    PROLIFERATIVE = 4


REFERABLE_FROM = Grade.MODERATE
"""Lowest grade of referable DR. Macular oedema is not assessed."""

REVIEW_MARGIN = 0.105
"""A grade that is not referable has low confidence if its score for referable DR is less than this below the threshold.

Chosen so that a tenth of the correct negatives is marked, as a mean over sources; see `docs/models.md`.
"""


class Flag(StrEnum):
    """Warning about a graded image, for its readers."""

    NO_OUTPUT_PASSED = "no_output_passed"
    NOT_MONOTONE = "not_monotone"
    NO_EVIDENCE = "no_evidence"
    """The saliency is zero everywhere: no positive evidence for the explained output, although it passed."""
    UNFAMILIAR = "unfamiliar"
    """The image is unlike those that the model has learned from."""


REVIEW_FLAGS = frozenset({Flag.NOT_MONOTONE, Flag.NO_EVIDENCE, Flag.UNFAMILIAR})
"""Flags that ask for a review. A grade 0 because no output passed is the usual grade 0 of many models."""


class DicomAdmission(StrEnum):
    """DICOM instances that are graded only where FUNDUS_DICOM_ADMIT names them."""

    VL_PHOTOGRAPHIC = "vl-photographic"
    SECONDARY_CAPTURE = "secondary-capture"
    SIXTEEN_BIT = "16-bit"
    """Ophthalmic Photography 16 Bit."""
    MONOCHROME = "monochrome"
    """Photographs in grey: they may have been taken through a filter."""
    MULTI_FRAME = "multi-frame"
    """Instances with several frames, of which the first is graded."""


class Precision(StrEnum):
    """Number format in which a network is computed, from the most to the least exact."""

    FLOAT32 = "float32"
    TF32 = "tf32"
    """float32 with the products of a GPU's tensor cores rounded to 10 bits."""
    BFLOAT16 = "bfloat16"
    INT8 = "int8"


class Role(StrEnum):
    """Permissions of a console user. Every role may view."""

    VIEWER = "viewer"
    GRADER = "grader"
    """May decide grades."""
    OPERATOR = "operator"
    """May set the number of readers; may not decide grades."""


class Picture(StrEnum):
    """Picture of an image that the console shows."""

    PHOTOGRAPH = "photograph"
    OVERLAY = "overlay"


class DecisionKind(StrEnum):
    """Kind of a decision by a person."""

    READING = "reading"
    ARBITRATION = "arbitration"
    """Decision of a third reader after two readers disagree."""


class Assistance(StrEnum):
    """Which readers of a run see the model's result and the reference grade before their own decision."""

    ALL = "all"
    FIRST = "first"
    """Only the first of two readers, and the arbitrator."""
    NONE = "none"


class Finding(StrEnum):
    """What a reader reports next to the grade."""

    LASER_SCARS = "laser_scars"
    OTHER_DISEASE = "other_disease"
    MACULOPATHY = "maculopathy"
    MEDIA_OPACITY = "media_opacity"


class ReviewState(StrEnum):
    """State of the review of one image."""

    UNREAD = "unread"
    HALF_READ = "half_read"
    """One of two readers has decided."""
    DISPUTED = "disputed"
    """Two readers disagree, and no third one has arbitrated."""
    READ = "read"
    ARBITRATED = "arbitrated"


class PublicationKind(StrEnum):
    """Kind of an object that is published about one image."""

    OVERLAY = "overlay"
    """The overlay, as DICOM Secondary Capture."""
    SR = "sr"
    """The grade, as DICOM structured report."""
    FHIR = "fhir"
    """The grade, as FHIR resources."""


class PublicationState(StrEnum):
    """State of a publication. All but `PENDING` are final, but an operator can make `REFUSED` pending again."""

    PENDING = "pending"
    PUBLISHED = "published"
    REFUSED = "refused"
    """The object must not be published as it is; the row has the code of the reason."""
    SUPERSEDED = "superseded"
    """Its outcome was replaced or withdrawn before it was published."""
