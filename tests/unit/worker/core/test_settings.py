import pytest

from worker.core.errors import SettingsError
from worker.core.settings import PREFIX, Settings, parse_settings, read_settings
from worker.core.vocabulary import Queue

WRONG = {
    "DATABASE_URL": "mysql://user:hunter2@host/name",
    "BROKER_URL": "http://user:hunter2@host",
    "STORAGE_URL": "gs://bucket",
    "S3_CHECKSUMS": "never",
    "S3_TIMEOUT_S": "0",
    "SOURCE_ROOTS": "images",
    "DICOMWEB_URL": "http://hunter2.example.org/dicom-web",
    "DICOMWEB_CONNECTIONS": "0",
    "DICOMWEB_TIMEOUT_S": "0",
    "PATIENT_KEY": "hunter2",
    "ENGINE": "abacus",
    "QUEUES": "live,express",
    "CONCURRENCY": "0",
    "MAX_BATCH_SIZE": "sixteen",
    "MAX_WAIT_MS": "-1",
    "DICOM_ADMIT": "multi-frame,oct",
    "DECODE_PROCESSES": "0",
    "DECODE_TIMEOUT_S": "-3",
    "DECODE_MEMORY_MB": "255",
    "DECODE_BUDGET_MB": "0",
    "MAX_IMAGE_BYTES": "0",
    "MAX_IMAGE_PIXELS": "1.5",
    "TRANSFER_THREADS": "0",
    "TRANSFER_TIMEOUT_S": "0",
    "OVERLAY_SIZE_PX": "63",
    "GPU_MEMORY_MB": "255",
    "OVERLAY_FORMAT": "gif",
    "OVERLAY_QUALITY": "101",
    "OVERLAY_PANELS": "2",
    "REPORTS": "perhaps",
    "CHUNK_SIZE": "257",
    "LEASE_S": "inf",
    "MAX_ATTEMPTS": "0",
    "RESEND_AFTER_S": "nan",
    "RECONCILE_EVERY_S": "0",
    "SERVICE_RETRY_TIMEOUT_S": "soon",
    "VISIBILITY_TIMEOUT_S": "0",
    "NIGHTLY_AT": "24:00",
    "TIME_ZONE": "Mars/Base",
    "PRECISION": "float8",
    "NIGHTLY_PRECISION": "float8",
    "CONSOLE_URL": "http://grading.example.org",
    "READERS": "3",
    "NIGHTLY_PROGRAMME": "north clinic",
    "NIGHTLY_SINCE": "soon",
    "NIGHTLY_SITE": "north clinic",
    "NIGHTLY_STUDY_DAYS": "0",
    "NIGHTLY_REQUIRE_ACCEPTED": "perhaps",
    "RETAIN_OVERLAYS_DAYS": "0",
    "RETAIN_ROWS_DAYS": "0.5",
    "RETAIN_REASONS_DAYS": "-1",
    "RETAIN_VIEWS_DAYS": "1e9",
    "RETENTION_AT": "noon",
    "PUBLISH": "sr,pdf",
    "PUBLISH_ORGANISATION": "x" * 65,
    "FHIR_URL": "http://fhir.example.org/r4",
    "FHIR_TIMEOUT_S": "0",
    "FHIR_PATIENT_SYSTEM": "1.2.3",
    "FHIR_SYSTEM": "clinic|fundus",
    "METRICS_PORT": "65536",
    "OTLP_URL": "grpc://collector:4317",
    "LOG_FORMAT": "xml",
    "LOG_LEVEL": "loud",
    "LOG_FILE_NAMES": "perhaps",
    "EYE_FROM_NAME": "perhaps",
    "PATIENT_FROM": "(",
}
ANY_VALUE = {
    "COMPILE_CACHE",
    "S3_ENDPOINT_URL", "S3_REGION", "MODEL", "OVERLAY_COLOURS", "NIGHTLY_SOURCE", "ALLOWED_COLUMNS", "REPORTS_DIR",
    "DRIFT_BASELINE", "ALARM_URLS", "METRICS_HOST", "REPORT_NEXT_STEPS", "REPORT_BASELINE",
    "NIGHTLY_MODEL", "BROKER_CA_FILE", "BROKER_CLIENT_CERTIFICATE", "BROKER_CLIENT_KEY",
    "DICOMWEB_USER", "DICOMWEB_PASSWORD", "DICOMWEB_PASSWORD_FILE", "DICOMWEB_TOKEN", "DICOMWEB_TOKEN_FILE",
    "FHIR_USER", "FHIR_PASSWORD", "FHIR_PASSWORD_FILE", "FHIR_TOKEN", "FHIR_TOKEN_FILE",
    "FHIR_CA", "FHIR_CLIENT_CERTIFICATE", "FHIR_CLIENT_KEY",
    "DICOMWEB_CA", "DICOMWEB_CLIENT_CERTIFICATE", "DICOMWEB_CLIENT_KEY",
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_error_names_the_variable(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(SettingsError) as caught:
        parse_settings()
    assert caught.value.detail.startswith(f"FUNDUS_{name}: ")
    assert caught.value.detail.count("FUNDUS_") == 1


def test_every_setting_is_covered_above() -> None:
    assert WRONG.keys() | ANY_VALUE == {name.upper() for name in Settings.model_fields}


def test_error_names_all_invalid_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNDUS_CHUNK_SIZE", "0")
    monkeypatch.setenv("FUNDUS_LOG_LEVEL", "loud")
    with pytest.raises(SettingsError, match=r"FUNDUS_CHUNK_SIZE: .+; FUNDUS_LOG_LEVEL: "):
        parse_settings()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("FUNDUS_DATABSE_URL", "rename it to FUNDUS_DATABASE_URL or remove it"),
        ("fundus_storage_ur", "rename it to FUNDUS_STORAGE_URL or remove it"),
        ("FUNDUS_ZZZ", "remove it"),
    ],
)
def test_unknown_variable_is_refused_with_the_nearest_name(
    name: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "hunter2")
    with pytest.raises(SettingsError) as caught:
        parse_settings(database_url="sqlite:///x.db")
    assert caught.value.detail == f"{name}: not a setting; fix: {remedy}"


def test_error_names_unknown_and_invalid_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNDUS_CHUNK_SIZE", "0")
    monkeypatch.setenv("FUNDUS_DATABSE_URL", "x")
    with pytest.raises(SettingsError, match=r"FUNDUS_DATABSE_URL: not a setting.+; FUNDUS_CHUNK_SIZE: "):
        parse_settings()


@pytest.mark.parametrize("name", ["DATABASE_URL", "BROKER_URL", "PATIENT_KEY"])
def test_errors_contain_no_password(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + name, WRONG[name])
    with pytest.raises(SettingsError) as caught:
        parse_settings()
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_settings_print_no_password() -> None:
    settings = parse_settings(
        database_url="postgresql://user:hunter2@host/name",
        broker_url="redis://:hunter2@host:6379/0",
        patient_key="hunter2" * 5,
    )
    assert "hunter2" not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    ("name", "value"), [("database_url", "redis://host:6379/0"), ("broker_url", "postgresql://host/name")]
)
def test_url_of_another_service_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"FUNDUS_{name.upper()}: "):
        parse_settings(**{name: value})


@pytest.mark.parametrize("value", ["s3://", "s3:///prefix", "file://host/dir", "file:relative", "/dir", ""])
def test_incomplete_storage_url_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="FUNDUS_STORAGE_URL: "):
        parse_settings(storage_url=value)


@pytest.mark.parametrize(
    "scheme", ["sqlite:///file.db", "postgresql://host/name", "postgresql+psycopg://host/name", "sqlite+pysqlite:///f"]
)
def test_url_may_name_a_driver(scheme: str) -> None:
    assert parse_settings(database_url=scheme).database_url.get_secret_value() == scheme


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis+sentinel://:hunter2@host:26379/0", r"redis\+sentinel:// is not supported; fix: name the primary"),
        ("sentinel://:hunter2@host:26379", "sentinel:// is not supported"),
        ("rediss+sentinel://:hunter2@host", r"rediss\+sentinel:// is not supported"),
        ("redis+tcp://:hunter2@host", "must begin with redis://, "),
        ("rediss://:hunter2@host/0?ssl_cert_reqs=sometimes", "ssl_cert_reqs must be none or optional or required"),
        ("rediss://:hunter2@host/0?ssl_check_host=false", "ssl_check_host: unknown"),
        ("redis://:hunter2@host/0?ssl_cert_reqs=required", "not encrypted; fix: remove ssl_cert_reqs or use rediss://"),
    ],
)
def test_broker_that_would_be_another_one_is_refused_by_name(url: str, message: str) -> None:
    with pytest.raises(SettingsError, match=f"FUNDUS_BROKER_URL: .*{message}") as caught:
        parse_settings(broker_url=url)
    assert "hunter2" not in str(caught.value)


def test_queues_keep_their_order() -> None:
    assert parse_settings(queues=" bulk , live ").queue_names == (Queue.BULK, Queue.LIVE)


def test_publication_kinds_are_in_the_order_of_publishing() -> None:
    assert parse_settings().publication_kinds == ()
    assert parse_settings(publish=" fhir,sr , overlay").publication_kinds == ("overlay", "sr", "fhir")
    with pytest.raises(SettingsError, match="FUNDUS_PUBLISH: 'pdf' is not one of overlay, sr, fhir"):
        parse_settings(publish="sr,pdf")


@pytest.mark.parametrize("value", ["", " , "])
def test_worker_without_a_queue_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="FUNDUS_QUEUES: "):
        parse_settings(queues=value)


def test_settings_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_settings()
    monkeypatch.setenv("FUNDUS_CHUNK_SIZE", "7")
    assert read_settings() is before
    assert parse_settings().chunk_size == 7


def test_override_takes_precedence_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNDUS_CHUNK_SIZE", "7")
    assert parse_settings(chunk_size=9).chunk_size == 9


@pytest.mark.parametrize(
    "name",
    [
        "NIGHTLY_SINCE",
        "NIGHTLY_MODEL",
        "NIGHTLY_SITE",
        "DRIFT_BASELINE",
        "ALARM_URLS",
        "RETAIN_OVERLAYS_DAYS",
        "RETAIN_ROWS_DAYS",
        "RETAIN_REASONS_DAYS",
        "RETAIN_VIEWS_DAYS",
    ],
)
def test_empty_value_is_unset(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + name, "")
    assert getattr(parse_settings(), name.lower()) is None


@pytest.mark.parametrize("since", ["last", "2026-11-22", "2026-11-22T18:00:00Z"])
def test_nightly_since_is_a_date_or_last(since: str) -> None:
    assert parse_settings(nightly_since=since).nightly_since == since
