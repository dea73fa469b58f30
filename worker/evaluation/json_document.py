"""Base class of results that are written as JSON."""

from pydantic import BaseModel, ConfigDict


class JsonDocument(BaseModel):
    """A frozen result; serialisation aliases keep the published JSON keys stable."""

    model_config = ConfigDict(frozen=True)

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the JSON text with the published keys."""
        return self.model_dump_json(by_alias=True, indent=indent)
