"""Exceptions of the project. The class determines the handling; the code identifies the failure.

`ImageError` and `Ungradable` are final for one image. A `ServiceError` is temporary and retried later. A `UsageError`
must be fixed by the operator before anything starts.
"""


class FundusError(Exception):
    """Base class: a failure with a code for programs and a one-sentence detail for people."""

    code = "error"
    exit_status = 1
    """Exit status of a command that ends with this error."""

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.detail, self.code))


def _rebuild(cls: type[FundusError], detail: str, code: str) -> FundusError:
    return cls(detail, code=code)


class ImageError(FundusError):
    """This image fails permanently; other images of the chunk are not affected."""

    code = "image_error"


class ImageMissingError(ImageError):
    """The reference points to no file or object."""

    code = "image_missing"


class ImageFormatError(ImageError):
    """The bytes are not an image in a supported format."""

    code = "image_format"


class NotAPhotographError(ImageError):
    """The header says that this is no colour fundus photograph."""

    code = "not_a_photograph"


class ImageTooLargeError(ImageError):
    """The image exceeds the limit of bytes or pixels; checked before decoding."""

    code = "image_too_large"


class ImageDecodeError(ImageError):
    """The format is supported, but the content is damaged."""

    code = "image_damaged"


class ImageDecoderCrashError(ImageError):
    """The decoder process crashed or timed out on these bytes."""

    code = "image_decoder_crash"


class ImageChecksumError(ImageError):
    """The SHA-256 of the bytes differs from the manifest's."""

    code = "image_checksum"


class ImageChangedError(ImageError):
    """The bytes are no longer those that were graded: the image was replaced under the same name."""

    code = "image_changed"


class ImageReferenceError(ImageError):
    """The reference is malformed or not allowed."""

    code = "reference_invalid"


class ImageRefusedError(ImageError):
    """The store refuses this object again and again, while it serves others."""

    code = "image_refused"


class Ungradable(FundusError):  # noqa: N818 - an outcome, not a fault
    """The photograph is valid, but its quality does not allow grading; it needs a retake or a human reader."""

    code = "ungradable"


class ServiceError(FundusError):
    """Storage, database or broker failed; the image goes back to the queue."""

    code = "service_error"


class StorageError(ServiceError):
    """The object store failed or refused a request."""

    code = "storage_unavailable"


class ObjectRefusedError(StorageError):
    """The store refuses one object: permission, archive tier or encryption key. Retrying soon changes nothing."""

    code = "storage_refused"


class StoreBusyError(StorageError):
    """The store asks to wait before the next request."""

    def __init__(self, detail: str, *, code: str | None = None, retry_after_s: float = 0.0) -> None:
        super().__init__(detail, code=code)
        self.retry_after_s = retry_after_s


class StoreDownError(StorageError):
    """The store has failed for longer than a request is retried."""


class DatabaseError(ServiceError):
    """The database failed or refused a request."""

    code = "database_unavailable"


class BrokerError(ServiceError):
    """The broker failed or refused a request."""

    code = "broker_unavailable"


class AcceleratorMemoryError(ServiceError):
    """The batch does not fit into device memory; a smaller one may."""

    code = "accelerator_memory"


class AlertError(ServiceError):
    """An alert was not accepted by one of its addresses."""

    code = "alarm_undelivered"


class FhirConflictError(ServiceError):
    """The FHIR server changed a resource of the transaction at the same time; nothing of it is stored."""

    code = "fhir_conflict"


class FhirRefusedError(FundusError):
    """The FHIR server refuses the content of a transaction; nothing of it is stored, and repeating it is useless."""

    code = "fhir_refused"


class LeaseLostError(FundusError):
    """Another worker leases the image now, so this one must not write anything for it."""

    code = "lease_lost"


class OverlapError(FundusError):
    """Another process is doing the same work at the moment."""

    code = "overlap"
    exit_status = 3


class PublicationError(FundusError):
    """A result must not be published as it is; others are not affected."""

    code = "publication_refused"


class NothingToRetractError(FundusError):
    """A withdrawn result was never stored where it was to be published."""

    code = "nothing_to_retract"


class ModelError(FundusError):
    """A model bundle is invalid, or its network returns values that are not finite."""

    code = "model_invalid"


class MessageError(FundusError):
    """A message does not follow the schema of `worker.core.messages`."""

    code = "message_invalid"


class UsageError(FundusError):
    """A setting, source, manifest or name is invalid and must be fixed by the operator."""

    code = "usage"
    exit_status = 2


class SettingsError(UsageError):
    """A setting is missing or invalid; the detail names its variable."""

    code = "settings_invalid"


class SourceError(UsageError):
    """A source or manifest is invalid or unreadable; the detail names the file and line."""

    code = "source_invalid"


class RunError(UsageError):
    """A run does not exist, or its state does not allow the request."""

    code = "run_invalid"


class NotAcceptedError(UsageError):
    """No model may grade the photographs of this site, because none has been accepted on photographs from there."""

    code = "site_not_accepted"
