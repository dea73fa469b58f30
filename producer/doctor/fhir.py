"""Check the FHIR server, where the settings name one, by its capability statement and a search; nothing is written."""

from contextlib import closing

from producer.doctor.check import Check, CheckStatus
from worker.core.dicomweb.address import parse_dicomweb_address
from worker.core.errors import FundusError, SettingsError
from worker.core.fhir.client import FhirClient, make_fhir_client
from worker.core.hosts import is_this_machine
from worker.core.settings import Settings

NAME = "fhir"
VERSION = "4.0"


def check_fhir(settings: Settings) -> list[Check]:
    """Read the server's version, sign in and search as a publisher does."""
    if settings.fhir_url is None:
        return []
    if settings.fhir_system is None:
        detail = "FUNDUS_FHIR_SYSTEM is not set, and results need identifiers"
        return [Check(NAME, CheckStatus.FAILED, detail, "set it to a URI of yours, as https://HOST/fundus")]
    try:
        with closing(make_fhir_client(settings)) as client:
            checks = [_read(client, settings.fhir_system)]
    except SettingsError as error:
        return [Check(NAME, CheckStatus.FAILED, error.detail, "correct this setting")]
    except FundusError as error:
        return [Check(NAME, CheckStatus.FAILED, error.detail, _remedy(error.detail))]
    address = parse_dicomweb_address(settings.fhir_url, "FUNDUS_FHIR")
    if not address.is_encrypted and not is_this_machine(address.host.rpartition(":")[0] or address.host):
        detail = f"the connection to {client.host} is not encrypted: others on the network can read all of it"
        checks.append(Check(NAME, CheckStatus.WARNING, detail, "use https:// with a certificate"))
    return checks


def _read(client: FhirClient, system: str) -> Check:
    version = client.read_version()
    # Many servers give their capability statement to everybody.
    client.search("DiagnosticReport", f"{system}/report|doctor")
    if not version.startswith(VERSION):
        detail = f"{client.host} has FHIR {version}; results are of R4 (4.0.1)"
        return Check(NAME, CheckStatus.FAILED, detail, "name the R4 base of the server in FUNDUS_FHIR_URL")
    return Check(NAME, CheckStatus.OK, f"{client.host}: FHIR {version}, signed in and searched")


def _remedy(detail: str) -> str:
    if "sign-in" in detail:
        return "correct FUNDUS_FHIR_USER and FUNDUS_FHIR_PASSWORD, or FUNDUS_FHIR_TOKEN"
    if "no permission" in detail:
        return "permit the user to search and write Device, Observation and DiagnosticReport"
    if "CERTIFICATE_VERIFY_FAILED" in detail:
        return "name the authority of its certificate in FUNDUS_FHIR_CA, and use the host in it"
    return "start the server or correct FUNDUS_FHIR_URL, the base of its R4 service"
