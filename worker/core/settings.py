"""Everything an operator can set, read once from `FUNDUS_` variables into one frozen object."""

from datetime import datetime
from functools import cache
from os import cpu_count
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.core.allowed_roots import AllowedRoots, parse_allowed_roots
from worker.core.errors import SettingsError
from worker.core.vocabulary import Queue

PREFIX = "FUNDUS_"
DATABASE_SCHEMES = ("sqlite", "postgresql")
BROKER_SCHEMES = ("redis", "rediss", "amqp", "amqps")
STORAGE_SCHEMES = ("file", "s3")
MIN_KEY_CHARS = 32
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROGRAMME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}"

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """Read with `read_settings()`. Addresses may hold passwords, so they are kept as secrets and never printed."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", use_attribute_docstrings=True)

    database_url: SecretStr = SecretStr("sqlite:///fundus.db")
    """The ledger: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`."""
    broker_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """Redis, Valkey or RabbitMQ: `redis://:PASSWORD@HOST:6379/0` or `amqp://USER:PASSWORD@HOST/VHOST`."""
    storage_url: str = Field(default_factory=lambda: (Path.cwd() / "fundus-store").as_uri())
    """Where overlays go: `file:///DIR` or `s3://BUCKET/PREFIX`."""
    s3_endpoint_url: str | None = None
    """Address of an S3-compatible store; none for Amazon's own. Credentials come by boto3's own chain."""
    s3_region: str = "us-east-1"
    """Region that requests are signed for."""
    s3_checksums: Literal["when_supported", "when_required"] = "when_supported"
    """`when_required` for stores that refuse boto3's checksums."""
    s3_timeout_s: Seconds = 20.0
    """Longest wait for one answer of the object store."""
    source_roots: str | None = None
    """Folders and `s3://BUCKET/PREFIX`es, comma-separated: the only places that photographs are read from."""
    allowed_columns: str | None = None
    """Columns of manifests and label files, comma-separated, that look as if they named a person and do not."""
    patient_key: SecretStr | None = None
    """Secret, 32 characters or more: a producer keeps patient ids only as their HMAC-SHA-256 under it."""

    model: str = "densenet121-aptos-320"
    """A model bundle: the name of a shipped one, or a directory."""
    engine: Literal["auto", "tensorflow", "openvino", "openvino-int8"] = "auto"
    """What runs the network; `auto`: OpenVINO on a CPU where it is installed, TensorFlow elsewhere. `openvino-int8` is
    quicker, and gives about one image in a thousand another grade."""
    queues: str = "live,bulk"
    """Queues that a worker consumes, comma-separated."""
    concurrency: Count = 4
    """Chunks in flight in one worker."""
    max_batch_size: Count = 16
    """Most images in one forward pass."""
    max_wait_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1000.0
    """Longest wait for a batch to fill while more images are on their way; a live image waits 20 ms at most."""
    decode_processes: Count = Field(default_factory=lambda: min(8, cpu_count() or 1))
    """Child processes that decode untrusted bytes."""
    decode_timeout_s: Seconds = 30.0
    """Longest time for decoding and preparing one image."""
    decode_memory_mb: Annotated[int, Field(ge=256)] = 2048
    """Address space of a decoding process beyond the program itself, MiB."""
    max_image_bytes: Count = 64 * 2**20
    """Largest accepted file."""
    max_image_pixels: Count = 150_000_000
    """Largest accepted width x height, checked in the header before decoding."""
    transfer_threads: Count = 16
    """Concurrent downloads and uploads of one worker."""

    overlay_size_px: Annotated[int, Field(ge=64, le=4096)] = 512
    """Side of the square overlay."""
    overlay_format: Literal["png", "jpeg"] = "jpeg"
    """A JPEG has a sixth of the bytes of a PNG and takes an eighth of the time; a PNG is exact."""
    overlay_quality: Annotated[int, Field(ge=1, le=100)] = 92
    """JPEG quality."""
    overlay_colours: str = "notebook"
    """`notebook` (magenta low, cyan high) or a colour map of OpenCV by name, such as `turbo` or `viridis`."""

    overlay_panels: bool = False
    """Upload photograph, preprocessed image and overlay side by side in place of the overlay alone."""

    chunk_size: Annotated[int, Field(ge=1, le=256)] = 32
    """Images in one message."""
    lease_s: Seconds = 60.0
    """How long a silent worker keeps its images; a live one renews."""
    max_attempts: Count = 3
    """Crashes of the whole worker that one image may be present at before it is quarantined."""
    resend_after_s: Seconds = 60.0
    """How long a message may be missing before its images are sent again."""
    reconcile_every_s: Seconds = 10.0
    """Pause between two looks of the reconciler that lives in every worker."""
    service_retry_timeout_s: Seconds = 30.0
    """How long calls of storage and database are retried, in seconds, before an image goes back to the queue."""
    visibility_timeout_s: Seconds = 900.0
    """After this the broker delivers an unacknowledged message again; far longer than a chunk takes."""

    reports: bool = True
    """Write a report beside the overlays when a run finishes, unless it is one image in the queue `live`."""
    report_next_steps: Path | None = None
    """JSON object: what to do next after grade `0` to `4`, and `attention` for an eye that could not be graded."""
    report_baseline: str | None = None
    """A run whose grades each report shows beside its own."""

    nightly_source: str | None = None
    """Folder, bucket prefix or manifest that beat enqueues every night."""
    nightly_at: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "01:00"
    """When, as HH:MM in UTC."""
    nightly_programme: Annotated[str, Field(pattern=rf"^{PROGRAMME_PATTERN}$")] = "nightly"
    """Whose nights these are: a run is PROGRAMME-YYYY-MM-DD, and each programme remembers what it has had."""
    nightly_since: str | None = None
    """Leave out what was modified before this: a date as in 2026-11-22, or `last`, a day before the newest known."""
    nightly_model: str | None = None
    """Id of the only model that may grade the nights; else that of the worker which takes a night's first image."""
    reports_dir: Path | None = None
    """Folder that gets each night's report as well, under the run's name; else it lies beside the overlays alone."""
    drift_baseline: str | None = None
    """Run that each night is held against; else the programme's last night that was well, under the same model."""
    alarm_urls: SecretStr | None = None
    """Secret: who is told when a night goes wrong, addresses of Apprise with spaces between: `jsons://HOST/PATH mailto://...`."""
    retain_overlays_days: Annotated[int, Field(ge=1)] | None = None
    """Days after which an overlay is deleted; for ever unless set."""
    retain_rows_days: Annotated[int, Field(ge=1)] | None = None
    """Days after which an outcome is deleted, its overlay before it; the image goes with its last outcome."""
    retention_at: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "12:00"
    """When beat lets them go, as HH:MM in UTC."""

    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Where a worker tells Prometheus what it does; none: nowhere. Each worker of one machine needs its own."""
    metrics_host: str = "127.0.0.1"
    """The address that it listens on; 0.0.0.0 for all. Nobody is asked for a password."""

    otlp_url: str | None = None
    """Where traces go, by OTLP over HTTP, as `http://collector:4318`; none: no traces. Needs the extra `tracing`."""

    console_url: str | None = None
    """Address under which people reach the console: https, or http on this machine alone."""
    readers: Annotated[int, Field(ge=1, le=2)] = 1
    """People who must read each image of a run that nobody has read yet; where two differ, a third one arbitrates."""

    log_format: Literal["human", "json"] = "human"
    """`json` for a log collector."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe message that is written."""

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: SecretStr) -> SecretStr:
        return _with_scheme(value, DATABASE_SCHEMES)

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, value: SecretStr) -> SecretStr:
        return _with_scheme(value, BROKER_SCHEMES)

    @field_validator("storage_url")
    @classmethod
    def _known_storage(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in STORAGE_SCHEMES:
            raise ValueError("must be file:///DIR or s3://BUCKET/PREFIX")
        if parts.scheme == "s3" and not parts.netloc:
            raise ValueError("names no bucket: s3://BUCKET/PREFIX")
        if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
            raise ValueError("needs an absolute path with three slashes: file:///DIR")
        return value

    @field_validator("otlp_url")
    @classmethod
    def _known_collector(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "http://none")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be http://HOST:PORT or https://HOST:PORT")
        if "@" in parts.netloc:
            raise ValueError("is no place for a password: put it into OTEL_EXPORTER_OTLP_HEADERS")
        return value

    @field_validator("console_url")
    @classmethod
    def _known_console(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        # Sign-in over plain http shows the password to the whole way.
        safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        if not safe or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
            raise ValueError("must be https://HOST[:PORT], or http://127.0.0.1[:PORT] on this machine alone")
        return value

    @field_validator("source_roots")
    @classmethod
    def _known_roots(cls, value: str | None) -> str | None:
        parse_allowed_roots(value or "")
        return value

    @field_validator("patient_key")
    @classmethod
    def _long_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < MIN_KEY_CHARS:
            raise ValueError(f"needs {MIN_KEY_CHARS} characters or more, such as those of `openssl rand -hex 32`")
        return value

    @field_validator(
        "nightly_since",
        "nightly_model",
        "reports_dir",
        "drift_baseline",
        "alarm_urls",
        "retain_overlays_days",
        "retain_rows_days",
        mode="before",
    )
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        """Compose hands on what is not set as an empty text."""
        return None if value == "" else value

    @field_validator("nightly_since")
    @classmethod
    def _known_since(cls, value: str | None) -> str | None:
        if value is not None and value != "last":
            try:
                datetime.fromisoformat(value)
            except ValueError:
                raise ValueError("must be `last` or a date as in 2026-11-22") from None
        return value

    @field_validator("queues")
    @classmethod
    def _known_queues(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",") if name.strip()]
        unknown = [name for name in names if name not in set(Queue)]
        if unknown or not names:
            raise ValueError(f"{value!r} must name {' and '.join(Queue)}, comma-separated")
        return ",".join(names)

    @property
    def allowed_roots(self) -> AllowedRoots | None:
        """Where photographs may come from; None where no bounds are set."""
        return parse_allowed_roots(self.source_roots or "")

    @property
    def queue_names(self) -> tuple[Queue, ...]:
        """The queues that a worker consumes, in the order given."""
        return tuple(Queue(name) for name in self.queues.split(","))


def parse_settings(**overrides: object) -> Settings:
    """Settings from the environment, `overrides` first. Raises SettingsError naming each wrong variable."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        # The rejected value is left out: an address may hold a password.
        wrong = "; ".join(
            f"{PREFIX}{'_'.join(map(str, e['loc'])).upper()}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise SettingsError(wrong) from None


@cache
def read_settings() -> Settings:
    """The settings of this process, read once."""
    return parse_settings()


def _with_scheme(value: SecretStr, schemes: tuple[str, ...]) -> SecretStr:
    scheme, colon, _ = value.get_secret_value().partition("://")
    if not colon or scheme.partition("+")[0] not in schemes:
        # Nothing of the value is repeated: what stands before a forgotten `://` may be the password.
        raise ValueError(f"must begin with {', '.join(f'{known}://' for known in schemes)}")
    return value
