"""Check the PACS, where the settings name one, by searching it and reading the attributes of one photograph."""

from producer.doctor.check import Check, CheckStatus
from worker.core.dicomweb.address import parse_dicomweb_address
from worker.core.dicomweb.client import INSTANCE_UID, SERIES_UID, STUDY_UID, DicomwebClient, read_text
from worker.core.dicomweb.connect import make_dicomweb_client
from worker.core.errors import FundusError, SettingsError
from worker.core.hosts import is_this_machine
from worker.core.settings import Settings
from worker.core.uris import InstancePath

NAME = "pacs"


def check_pacs(settings: Settings) -> list[Check]:
    """Sign in, search (QIDO-RS) and read attributes (WADO-RS); nothing is written."""
    if settings.dicomweb_url is None:
        return []
    try:
        client = make_dicomweb_client(settings)
    except SettingsError as error:
        return [Check(NAME, CheckStatus.FAILED, error.detail, "correct this setting")]
    try:
        found = _read_one(client)
    except FundusError as error:
        return [Check(NAME, CheckStatus.FAILED, error.detail, _remedy(error.detail))]
    finally:
        client.close()
    checks = [Check(NAME, CheckStatus.OK, f"{client.host}: {found}")]
    address = parse_dicomweb_address(settings.dicomweb_url)
    if not address.is_encrypted and not is_this_machine(address.host.rpartition(":")[0] or address.host):
        detail = f"the connection to {client.host} is not encrypted: others on the network can read all of it"
        checks.append(Check(NAME, CheckStatus.WARNING, detail, "use https:// with a certificate"))
    if settings.patient_key is None:
        detail = "FUNDUS_PATIENT_KEY is not set: `fundus enqueue` and `fundus nightly` refuse the PACS"
        checks.append(Check(NAME, CheckStatus.WARNING, detail, "set it to the output of `openssl rand -hex 32`"))
    return checks


def _read_one(client: DicomwebClient) -> str:
    for study in client.search("studies", [], limit=1):
        uid = read_text(study, STUDY_UID)
        for instance in client.search("instances", [], study=uid, limit=1):
            uids = [uid, read_text(instance, SERIES_UID), read_text(instance, INSTANCE_UID)]
            client.metadata(InstancePath(*map(str, uids)))
            return "searched, and read the attributes of one instance"
    return "searched, and found nothing"


def _remedy(detail: str) -> str:
    if "sign-in" in detail:
        return "correct FUNDUS_DICOMWEB_USER and FUNDUS_DICOMWEB_PASSWORD, or FUNDUS_DICOMWEB_TOKEN"
    if "CERTIFICATE_VERIFY_FAILED" in detail:
        return "name the authority of its certificate in FUNDUS_DICOMWEB_CA, and use the host in it"
    return "start the PACS or correct FUNDUS_DICOMWEB_URL, the root of its DICOMweb service"
