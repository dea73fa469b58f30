"""Every failure the project can name. The class says who can act; the code says what happened.

`ImageError` and `Ungradable` are final for one image. `ServiceError` is nobody's fault and is tried again later.
`UsageError` is for a person to mend before anything starts.
"""


class FundusError(Exception):
    """A failure with a code for programs and one sentence for people."""

    code = "error"
    exit_status = 1
    """Of a command that it ends."""

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
    """This image cannot be graded by anyone's retry; its neighbours are not touched."""

    code = "image_error"


class ImageMissingError(ImageError):
    """The reference points at nothing."""

    code = "image_missing"


class ImageFormatError(ImageError):
    """The bytes are no picture of an accepted format."""

    code = "image_format"


class ImageTooLargeError(ImageError):
    """More bytes or pixels than the limits allow; found before decoding."""

    code = "image_too_large"


class ImageDecodeError(ImageError):
    """The format is right and the content is damaged."""

    code = "image_damaged"


class ImageDecoderCrashError(ImageError):
    """The decoder died or ran out of time on these bytes."""

    code = "image_decoder_crash"


class ImageChecksumError(ImageError):
    """The bytes are not those that the manifest promised."""

    code = "image_checksum"


class ImageReferenceError(ImageError):
    """The reference itself is malformed or not allowed."""

    code = "reference_invalid"


class Ungradable(FundusError):  # noqa: N818 - an outcome for the programme, not a fault
    """The photograph is read but cannot be graded: the eye needs another one, or a human."""

    code = "ungradable"


class ServiceError(FundusError):
    """Storage, database or broker did not do its part; the image goes back to the queue."""

    code = "service_error"


class StorageError(ServiceError):
    """The object store failed or refused."""

    code = "storage_unavailable"


class DatabaseError(ServiceError):
    """The ledger failed or refused."""

    code = "database_unavailable"


class BrokerError(ServiceError):
    """The broker failed or refused."""

    code = "broker_unavailable"


class AcceleratorMemoryError(ServiceError):
    """The batch does not fit the device's memory; a smaller one may."""

    code = "accelerator_memory"


class AlertError(ServiceError):
    """An alarm was not taken by one of its addresses."""

    code = "alarm_undelivered"


class OverlapError(FundusError):
    """The same work is being done elsewhere at this moment."""

    code = "overlap"
    exit_status = 3


class ModelError(FundusError):
    """A bundle or a network that must not be used, or that yields values that are not finite."""

    code = "model_invalid"


class MessageError(FundusError):
    """A message that does not follow the contract."""

    code = "message_invalid"


class UsageError(FundusError):
    """A setting, source, manifest or name that a person must mend."""

    code = "usage"
    exit_status = 2


class SettingsError(UsageError):
    """A setting is missing or wrong; names its variable."""

    code = "settings_invalid"


class SourceError(UsageError):
    """A source or manifest cannot be read; names the file and the line."""

    code = "source_invalid"


class RunError(UsageError):
    """A run does not exist or is in the wrong state for the request."""

    code = "run_invalid"
