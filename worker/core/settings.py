"""Settings of producers and workers, read once from `FUNDUS_` environment variables."""

import os
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.core.allowed_roots import AllowedRoots, parse_allowed_roots
from worker.core.broker_address import parse_broker_address
from worker.core.dicomweb.address import parse_dicomweb_address
from worker.core.errors import SettingsError
from worker.core.machine import default_decode_budget_mb, default_decoders
from worker.core.setting_names import describe_unknown_settings
from worker.core.vocabulary import DicomAdmission, Precision, PublicationKind, Queue

PREFIX = "FUNDUS_"
DATABASE_SCHEMES = ("sqlite", "postgresql")
STORAGE_SCHEMES = ("file", "s3")
MIN_KEY_CHARS = 32
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROGRAMME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}"
SITE_PATTERN = PROGRAMME_PATTERN
FHIR_SYSTEM_PATTERN = r"^(https?://|urn:)[A-Za-z0-9._~:/-]+[A-Za-z0-9]$"
"""A URI that needs no encoding within a search: without `|`, `,`, `$` and spaces."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]

EngineName = Literal["auto", "tensorflow", "jax", "openvino", "openvino-int8"]


class Settings(BaseSettings):
    """All settings. URLs that may contain passwords are secrets and are never printed. Use `read_settings()`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", use_attribute_docstrings=True)

    database_url: SecretStr = SecretStr("sqlite:///fundus.db")
    """URL of the ledger: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`."""
    broker_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """URL of the Redis, Valkey or RabbitMQ broker: `redis://:PASSWORD@HOST:6379/0` or
    `amqp://USER:PASSWORD@HOST/VHOST`. With `rediss://` or `amqps://`, certificate and host are checked;
    `?ssl_check_hostname=false` or `?ssl_cert_reqs=none` at the end switches that off."""
    broker_ca_file: Path | None = None
    """PEM file of the authorities that may sign the broker's certificate; unset means those of the system."""
    broker_client_certificate: Path | None = None
    """PEM file of the certificate that this program shows to the broker; unset means that it shows none."""
    broker_client_key: Path | None = None
    """PEM file of that certificate's private key; unset means that the key is in the same file."""
    storage_url: str = Field(default_factory=lambda: (Path.cwd() / "fundus-store").as_uri())
    """Where overlays and reports are stored: `file:///DIR` or `s3://BUCKET/PREFIX`."""
    s3_endpoint_url: str | None = None
    """URL of an S3-compatible store; unset means Amazon S3. Credentials come from boto3's usual sources."""
    s3_region: str = "us-east-1"
    """Region for which S3 requests are signed."""
    s3_checksums: Literal["when_supported", "when_required"] = "when_supported"
    """When S3 requests carry checksums; use `when_required` for stores that reject them."""
    s3_timeout_s: Seconds = 20.0
    """Timeout of one S3 response, in seconds."""
    source_roots: str | None = None
    """Folders, `s3://BUCKET/PREFIX`es and `dicomweb://pacs` that images may be read from, comma-separated; unset allows
    every place."""
    allowed_columns: str | None = None
    """Columns of manifests and label files, comma-separated, that are accepted although their names suggest personal
    data."""
    dicomweb_url: str | None = None
    """Root of the DICOMweb service of the PACS of `dicomweb://pacs`: `https://HOST/dicom-web`; `http://` on this
    machine, or with `?plain_http=true` at the end."""
    dicomweb_user: str | None = None
    """User of the PACS; unset means no sign-in, or one by token."""
    dicomweb_password: SecretStr | None = None
    """Secret: the user's password."""
    dicomweb_password_file: Path | None = None
    """File with the user's password; it takes the place of FUNDUS_DICOMWEB_PASSWORD and is read for each request."""
    dicomweb_token: SecretStr | None = None
    """Secret: bearer token of the PACS, instead of user and password."""
    dicomweb_token_file: Path | None = None
    """File with the bearer token; it takes the place of FUNDUS_DICOMWEB_TOKEN and is read for each request, so that a
    token can be renewed."""
    dicomweb_ca: Path | None = None
    """PEM file of the authorities that may sign the certificate of the PACS; unset means those of the system."""
    dicomweb_client_certificate: Path | None = None
    """PEM file of the certificate that this program shows to the PACS; unset means that it shows none."""
    dicomweb_client_key: Path | None = None
    """PEM file of that certificate's private key; unset means that the key is in the same file."""
    dicomweb_connections: Count = 8
    """Maximum number of parallel requests of one program to the PACS."""
    dicomweb_timeout_s: Seconds = 20.0
    """Timeout of one response of the PACS, in seconds; FUNDUS_TRANSFER_TIMEOUT_S limits the whole download."""
    patient_key: SecretStr | None = None
    """Secret of at least 32 characters; if set, producers replace patient ids by their HMAC-SHA-256 with this key. They
    refuse DICOM without it."""
    eye_from_name: bool = False
    """Read the eye from the file names of folders and buckets: right, left, OD, OS, R or L as a word."""
    patient_from: str | None = None
    """Regular expression that finds the patient id in the path below a folder or prefix: its group `patient`, its first
    group, or the whole match."""
    dicom_admit: str = ""
    """DICOM instances to grade in addition to Ophthalmic Photography 8 Bit, comma-separated: `vl-photographic`,
    `secondary-capture`, `16-bit`, `monochrome`, and `multi-frame` for the first frame of several. The same for
    producers and workers."""

    model: str = "densenet121-efficientnetlite2-320"
    """Model bundle: the name of a shipped one or a directory."""
    engine: EngineName = "auto"
    """Engine that runs the network; `auto` uses JAX or TensorFlow on GPUs and OpenVINO on CPUs, whichever of them is
    installed. `openvino-int8` is faster, but changes about one grade in a thousand."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the network; `auto` uses the fastest one of the device that passes the self-test at the start.
    Runs that require a precision (`fundus enqueue --precision`) are left to workers that compute in it."""
    gpu_memory_mb: Annotated[int, Field(ge=256)] | None = None
    """Memory of a GPU that one worker process may use, in MiB; unset allocates what is needed."""
    compile_cache: Path | None = None
    """Folder of networks that JAX has compiled, which no other user may write to; unset means
    `$XDG_CACHE_HOME/fundus/compiled` or `~/.cache/fundus/compiled`."""
    queues: str = "live,bulk"
    """Queues that a worker consumes, comma-separated."""
    concurrency: Count = 4
    """Number of chunks that one worker processes at a time."""
    max_batch_size: Count = 16
    """Maximum number of images in one forward pass."""
    max_wait_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1000.0
    """Maximum time, in milliseconds, that a batch waits for images that are being prepared; live images wait at most
    20 ms."""
    decode_memory_mb: Annotated[int, Field(ge=256)] = 2048
    """Address space of a decoding process in addition to the program, in MiB."""
    decode_processes: Count = Field(default_factory=lambda values: default_decoders(values["decode_memory_mb"]))
    """Number of child processes that decode images."""
    decode_budget_mb: Count = Field(default_factory=lambda values: default_decode_budget_mb(values["decode_memory_mb"]))
    """Memory that all decoding processes of a worker may use at a time, in MiB; larger images wait for smaller ones."""
    decode_timeout_s: Seconds = 30.0
    """Timeout of decoding and preparing one image, in seconds."""
    max_image_bytes: Count = 64 * 2**20
    """Maximum size of an image file, in bytes."""
    max_image_pixels: Count = 150_000_000
    """Maximum width x height of an image, checked in its header before decoding."""
    transfer_timeout_s: Annotated[float, Field(gt=0, le=200)] = 120.0
    """Timeout of one whole download, in seconds; a slower one is tried again."""
    transfer_threads: Count = 16
    """Number of concurrent downloads and uploads of one worker."""

    overlay_size_px: Annotated[int, Field(ge=64, le=4096)] = 512
    """Side length of the square overlay, in pixels."""
    overlay_format: Literal["png", "jpeg"] = "jpeg"
    """File format of overlays: JPEG has a sixth of the bytes of PNG and is eight times as fast; PNG is lossless."""
    overlay_quality: Annotated[int, Field(ge=1, le=100)] = 92
    """JPEG quality of overlays, from 1 to 100."""
    overlay_colours: str = "warm"
    """Colours of overlays: `warm`, or an OpenCV colour map such as `viridis`, tints where the evidence is, with lines
    at 50 and 80 % of the model's scale; `notebook` covers the photograph by half, from magenta (low) to cyan (high),
    and stretches each map to its own maximum."""

    overlay_panels: bool = False
    """Upload a panel of photograph, preprocessed image and overlay instead of the overlay alone."""

    chunk_size: Annotated[int, Field(ge=1, le=256)] = 32
    """Number of images in one message."""
    lease_s: Seconds = 60.0
    """Time, in seconds, after which an unresponsive worker loses its images; running workers renew their leases."""
    max_attempts: Count = 3
    """Number of attempts that may end in a worker crash before an image is quarantined."""
    resend_after_s: Seconds = 60.0
    """Time, in seconds, after which images without a message are sent again."""
    reconcile_every_s: Seconds = 10.0
    """Interval of the reconciler, which runs in every worker, in seconds."""
    service_retry_timeout_s: Seconds = 30.0
    """How long failing calls of storage or database are retried, in seconds, before an image goes back to the queue."""
    visibility_timeout_s: Seconds = 900.0
    """Redis and Valkey deliver an unacknowledged message again after this time, in seconds; a chunk must take much
    less."""

    reports: bool = True
    """Write a report next to the overlays when a run finishes, except for runs of one image in the queue `live`."""
    report_next_steps: Path | None = None
    """JSON file with the next step for each grade `0` to `4`, and for `attention`, an eye that could not be graded."""
    report_baseline: str | None = None
    """Run whose grades each report shows for comparison."""

    time_zone: str = "UTC"
    """Time zone, such as `Europe/Berlin`, whose dates name nights and in which the times of beat are."""
    nightly_source: str | None = None
    """Folder, S3 prefix, PACS or manifest that beat enqueues every night; unset disables the nightly run."""
    nightly_at: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "01:00"
    """Time of the nightly run, as HH:MM in FUNDUS_TIME_ZONE."""
    nightly_programme: Annotated[str, Field(pattern=rf"^{PROGRAMME_PATTERN}$")] = "nightly"
    """Screening programme of the nightly runs, which are named PROGRAMME-YYYY-MM-DD; each programme enqueues an image
    version once."""
    nightly_since: str | None = None
    """Enqueue only images modified since this date, such as 2026-11-22; `last` means one day before the newest known
    image."""
    nightly_study_days: Count = 14
    """Number of days before a night in which its photographs may have been taken, for a source `dicomweb://pacs` that
    names no StudyDate; nights that were missed extend it. A photograph that reaches the PACS later is not found."""
    nightly_model: str | None = None
    """Id of the only model that may grade nightly runs; unset means the model of the first worker that takes an image
    of the run."""
    nightly_precision: Precision | None = None
    """The only precision in which workers may grade nightly runs, such as `float32`; unset admits every precision."""
    nightly_site: Annotated[str, Field(pattern=rf"^{SITE_PATTERN}$")] | None = None
    """Site where the photographs of nightly runs are taken; unset means that runs name none, and nothing is said about
    their model's validation."""
    nightly_require_accepted: bool = False
    """Refuse a night unless its model is accepted at FUNDUS_NIGHTLY_SITE (`fundus accept`)."""
    reports_dir: Path | None = None
    """Folder that receives a copy of each nightly report; unset means that reports are stored only next to the
    overlays."""
    drift_baseline: str | None = None
    """Run with which nightly runs are compared for drift; unset means the programme's last night without findings
    under the same model."""
    alarm_urls: SecretStr | None = None
    """Secret: Apprise URLs, separated by spaces, that receive an alert when a night has problems: `jsons://HOST/PATH
    mailto://...`."""
    retain_overlays_days: Annotated[int, Field(ge=1)] | None = None
    """Age in days at which overlays are deleted; unset keeps them."""
    retain_rows_days: Annotated[int, Field(ge=1)] | None = None
    """Age in days at which outcomes and their overlays are deleted, and images with their last outcome; unset keeps
    them."""
    retain_reasons_days: Annotated[int, Field(ge=1)] | None = None
    """Age in days at which the reasons that readers wrote are erased, at the latest with the outcomes; unset keeps
    them."""
    retain_views_days: Annotated[int, Field(ge=1)] | None = None
    """Age in days at which records of who viewed a photograph in the console are deleted; unset keeps them."""
    retention_at: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "12:00"
    """Time of the daily deletion by beat, as HH:MM in FUNDUS_TIME_ZONE."""

    publish: str = ""
    """What is published about each graded or ungradable DICOM photograph, comma-separated: `sr` is a structured report
    and `overlay` a Secondary Capture in the photograph's study, `fhir` FHIR resources; unset publishes nothing."""
    publish_organisation: Annotated[str, Field(max_length=64)] | None = None
    """Organisation that answers for the clinical use of published results; unset marks each one as preliminary,
    unverified and NOT FOR CLINICAL USE."""
    fhir_url: str | None = None
    """Base URL of the FHIR R4 server that receives results (FUNDUS_PUBLISH): `https://HOST/fhir`; `http://` on this
    machine, or with `?plain_http=true` at the end."""
    fhir_user: str | None = None
    """User of the FHIR server; unset means no sign-in, or one by token."""
    fhir_password: SecretStr | None = None
    """Secret: the user's password."""
    fhir_password_file: Path | None = None
    """File with the user's password, instead of FUNDUS_FHIR_PASSWORD; it is read for each request."""
    fhir_token: SecretStr | None = None
    """Secret: bearer token of the FHIR server, instead of user and password."""
    fhir_token_file: Path | None = None
    """File with the bearer token, instead of FUNDUS_FHIR_TOKEN; it is read for each request, so that a token can be
    renewed."""
    fhir_ca: Path | None = None
    """PEM file of the authorities that may sign the certificate of the FHIR server; unset means those of the system."""
    fhir_client_certificate: Path | None = None
    """PEM file of the certificate that this program shows to the FHIR server; unset means that it shows none."""
    fhir_client_key: Path | None = None
    """PEM file of that certificate's private key; unset means that the key is in the same file."""
    fhir_timeout_s: Seconds = 30.0
    """Timeout of one response of the FHIR server, in seconds."""
    fhir_patient_system: Annotated[str, Field(pattern=FHIR_SYSTEM_PATTERN)] | None = None
    """System of the PACS's patient ids on the FHIR server, such as `urn:oid:1.2.3`; unset means that published results
    name the id and its issuer only."""
    fhir_system: Annotated[str, Field(pattern=FHIR_SYSTEM_PATTERN)] | None = None
    """URI in your own name, such as `https://HOST/fundus`, that makes the identifiers of FHIR resources unique; no
    server is asked for it. Never change it: results would be stored a second time."""

    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port of a worker's Prometheus metrics, different for each worker of a machine; unset disables them."""
    metrics_host: str = "127.0.0.1"
    """Address on which the metrics port listens, without authentication; 0.0.0.0 means all interfaces."""

    otlp_url: str | None = None
    """URL of an OTLP/HTTP trace collector, such as `http://collector:4318`; unset disables traces. Needs the extra
    `tracing`."""

    console_url: str | None = None
    """URL under which users open the console: https, or http on this machine only."""
    readers: Annotated[int, Field(ge=1, le=2)] = 1
    """Number of people who must review each image of a run without reviews; if two disagree, a third one arbitrates."""

    log_format: Literal["human", "json"] = "human"
    """Log format: readable lines, or `json` for a log collector."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged."""
    log_file_names: bool = True
    """Name the file of an image, by its path below the source, in log lines about it. Set it to false if paths contain
    names or record numbers of patients."""

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, value: SecretStr) -> SecretStr:
        return _check_scheme(value, DATABASE_SCHEMES)

    @field_validator("broker_url")
    @classmethod
    def _check_broker(cls, value: SecretStr) -> SecretStr:
        parse_broker_address(value.get_secret_value())
        return value

    @field_validator("storage_url")
    @classmethod
    def _check_storage(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in STORAGE_SCHEMES:
            raise ValueError("must be file:///DIR or s3://BUCKET/PREFIX")
        if parts.scheme == "s3" and not parts.netloc:
            raise ValueError("needs a bucket: s3://BUCKET/PREFIX")
        if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
            raise ValueError("needs an absolute path with three slashes: file:///DIR")
        return value

    @field_validator("otlp_url")
    @classmethod
    def _check_collector(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "http://none")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be http://HOST:PORT or https://HOST:PORT")
        if "@" in parts.netloc:
            raise ValueError("must not contain a password; use OTEL_EXPORTER_OTLP_HEADERS")
        return value

    @field_validator("dicomweb_url")
    @classmethod
    def _check_dicomweb(cls, value: str | None) -> str | None:
        if value is not None:
            parse_dicomweb_address(value)
        return value

    @field_validator("fhir_url")
    @classmethod
    def _check_fhir(cls, value: str | None) -> str | None:
        if value is not None:
            parse_dicomweb_address(value, "FUNDUS_FHIR")
        return value

    @field_validator("console_url")
    @classmethod
    def _check_console(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        # Plain http would expose passwords to the network.
        safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        if not safe or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
            raise ValueError("must be https://HOST[:PORT], or http://127.0.0.1[:PORT] on this machine only")
        return value

    @field_validator("patient_from")
    @classmethod
    def _check_patient_from(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"is not a regular expression: {error}") from error
        return value

    @field_validator("source_roots")
    @classmethod
    def _check_roots(cls, value: str | None) -> str | None:
        parse_allowed_roots(value or "")
        return value

    @field_validator("patient_key")
    @classmethod
    def _check_patient_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < MIN_KEY_CHARS:
            raise ValueError(f"needs at least {MIN_KEY_CHARS} characters; generate it with `openssl rand -hex 32`")
        return value

    @field_validator(
        "gpu_memory_mb",
        "compile_cache",
        "broker_ca_file",
        "broker_client_certificate",
        "broker_client_key",
        "dicomweb_url",
        "dicomweb_user",
        "dicomweb_password",
        "dicomweb_password_file",
        "dicomweb_token",
        "dicomweb_token_file",
        "dicomweb_ca",
        "dicomweb_client_certificate",
        "dicomweb_client_key",
        "nightly_since",
        "nightly_model",
        "nightly_site",
        "reports_dir",
        "drift_baseline",
        "alarm_urls",
        "retain_overlays_days",
        "retain_rows_days",
        "retain_reasons_days",
        "retain_views_days",
        "publish_organisation",
        "fhir_url",
        "fhir_user",
        "fhir_password",
        "fhir_password_file",
        "fhir_token",
        "fhir_token_file",
        "fhir_ca",
        "fhir_client_certificate",
        "fhir_client_key",
        "fhir_patient_system",
        "fhir_system",
        mode="before",
    )
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        """Treat an empty text as unset: Docker Compose passes unset variables as empty ones."""
        return None if value == "" else value

    @field_validator("time_zone")
    @classmethod
    def _check_time_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("must be a time zone of the IANA database, such as Europe/Berlin") from None
        return value

    @field_validator("nightly_since")
    @classmethod
    def _check_since(cls, value: str | None) -> str | None:
        if value is not None and value != "last":
            try:
                datetime.fromisoformat(value)
            except ValueError:
                raise ValueError("must be `last` or a date as in 2026-11-22") from None
        return value

    @field_validator("dicom_admit")
    @classmethod
    def _check_admissions(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",") if name.strip()]
        if set(names) - set(DicomAdmission):
            raise ValueError(f"must be of {', '.join(DicomAdmission)}, comma-separated")
        return ",".join(names)

    @field_validator("queues")
    @classmethod
    def _check_queues(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",") if name.strip()]
        unknown = [name for name in names if name not in set(Queue)]
        if unknown or not names:
            raise ValueError(f"{value!r} must be {' or '.join(Queue)} or both, comma-separated")
        return ",".join(names)

    @field_validator("publish")
    @classmethod
    def _check_publish(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",") if name.strip()]
        if unknown := [name for name in names if name not in set(PublicationKind)]:
            raise ValueError(f"{unknown[0]!r} is not one of {', '.join(PublicationKind)}")
        return ",".join(names)

    @property
    def publication_kinds(self) -> tuple[PublicationKind, ...]:
        """What is published, in the order of publishing."""
        return tuple(kind for kind in PublicationKind if kind in self.publish.split(","))

    @property
    def allowed_roots(self) -> AllowedRoots | None:
        """The parsed `source_roots`; None allows every place."""
        return parse_allowed_roots(self.source_roots or "")

    @property
    def dicom_admissions(self) -> frozenset[DicomAdmission]:
        """The parsed `dicom_admit`."""
        return frozenset(DicomAdmission(name) for name in self.dicom_admit.split(",") if name)

    @property
    def expects_retention(self) -> bool:
        """Whether anything is to be deleted at some age."""
        ages = (self.retain_overlays_days, self.retain_rows_days, self.retain_reasons_days, self.retain_views_days)
        return any(age is not None for age in ages)

    @property
    def queue_names(self) -> tuple[Queue, ...]:
        """Queues that a worker consumes, in the given order."""
        return tuple(Queue(name) for name in self.queues.split(","))


def parse_settings(**overrides: object) -> Settings:
    """Read the environment; `overrides` take precedence.

    Raises SettingsError that names every invalid variable and every `FUNDUS_` variable that is no setting.
    """
    wrong = _describe_unknown()
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        # The rejected value is not repeated: a URL may contain a password.
        wrong += [
            f"{PREFIX}{'_'.join(map(str, e['loc'])).upper()}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
            if e["type"] != "default_factory_not_called"  # a default that depends on an invalid value
        ]
        raise SettingsError("; ".join(wrong)) from None
    if wrong:
        raise SettingsError("; ".join(wrong))
    return settings


def check_setting_names() -> None:
    """Check the names of the environment's `FUNDUS_` variables. Raises SettingsError that names every unknown one."""
    if unknown := _describe_unknown():
        raise SettingsError("; ".join(unknown))


@cache
def read_settings() -> Settings:
    """Return the settings of this process, read once."""
    return parse_settings()


def _describe_unknown() -> list[str]:
    return describe_unknown_settings(os.environ, PREFIX, [PREFIX + name.upper() for name in Settings.model_fields])


def _check_scheme(value: SecretStr, schemes: tuple[str, ...]) -> SecretStr:
    scheme, colon, _ = value.get_secret_value().partition("://")
    if not colon or scheme.partition("+")[0] not in schemes:
        # Nothing of the value is repeated: without `://`, its beginning may be a password.
        raise ValueError(f"must begin with {', '.join(f'{known}://' for known in schemes)}")
    return value
