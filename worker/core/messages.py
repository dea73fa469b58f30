"""The messages of the system. `encode` and `decode` are their only doors."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from worker.core.errors import MessageError

VERSION: Literal[1] = 1
MAX_CHUNK_IMAGES = 256
IMAGE_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"

TASK_ID_PATTERN = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
TRACE_HEADER = "traceparent"
"""Beside the message, where its sender traces it (https://www.w3.org/TR/trace-context/); no more of a trace rides."""
TRACE_PATTERN = r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"

ImageId = Annotated[str, StringConstraints(pattern=IMAGE_ID_PATTERN, strict=True)]


class Message(BaseModel):
    """What every message has. It holds ids only: no path, address or person can ride in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    run_id: Annotated[int, Field(ge=1, le=2**63 - 1, strict=True)]

    def encode(self) -> dict[str, Any]:
        """JSON types only."""
        return self.model_dump(mode="json")

    @classmethod
    def decode(cls, body: object) -> Self:
        """Raises MessageError for anything that `encode` of this version could not have made."""
        # The type, too: to Python, True and 1.0 are equal to 1.
        if isinstance(body, dict) and (type(body.get("version")), body.get("version")) != (int, VERSION):
            raise MessageError(
                f"message version {body.get('version')!r}, this worker understands {VERSION}",
                code="message_version",
            )
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "body"
            raise MessageError(f"{where}: {first['msg']} ({error.error_count()} faults)") from None


class GradeChunk(Message):
    """Ask a worker to grade these images of one run."""

    image_ids: Annotated[tuple[ImageId, ...], Field(min_length=1, max_length=MAX_CHUNK_IMAGES)]


class WriteReport(Message):
    """Ask a worker for the report of one run."""
