"""Messages between producers and workers, with strict validation."""

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from worker.core.errors import MessageError

MESSAGE_VERSION: Literal[1] = 1
MAX_CHUNK_IMAGES = 256
IMAGE_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"

TASK_ID_PATTERN = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
TRACE_HEADER = "traceparent"
"""Header of a traced message (https://www.w3.org/TR/trace-context/); `tracestate` and baggage are not sent."""
TRACE_PATTERN = r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"

RunId = Annotated[int, Field(ge=1, le=2**63 - 1, strict=True)]
ImageId = Annotated[str, StringConstraints(pattern=IMAGE_ID_PATTERN, strict=True)]


class Message(BaseModel):
    """Base class of messages. They contain only ids and dates: no path, URI or personal data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1

    def encode(self) -> dict[str, Any]:
        """Return the message as JSON types."""
        return self.model_dump(mode="json")

    @classmethod
    def decode(cls, body: object) -> Self:
        """Parse a message body. Raises MessageError for any body that `encode` of this version cannot produce."""
        # Compare the type, too: in Python, True and 1.0 are equal to 1.
        if isinstance(body, dict) and (type(body.get("version")), body.get("version")) != (int, MESSAGE_VERSION):
            raise MessageError(
                f"message version {body.get('version')!r} is not supported; this worker needs {MESSAGE_VERSION}",
                code="message_version",
            )
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "body"
            raise MessageError(f"{field}: {first['msg']} ({error.error_count()} errors)") from None


class GradeChunk(Message):
    """Request to grade images of one run."""

    run_id: RunId
    image_ids: Annotated[tuple[ImageId, ...], Field(min_length=1, max_length=MAX_CHUNK_IMAGES)]


class WriteReport(Message):
    """Request to write the report of one run."""

    run_id: RunId


class Duty(Message):
    """Request for a duty of beat: to start a night, to close nights, or retention."""

    date: date
    """Day on which the duty was due; a worker may take the message after midnight."""
