"""Make the client of the PACS that the settings name."""

from worker.core.dicomweb.address import parse_dicomweb_address
from worker.core.dicomweb.client import DicomwebClient
from worker.core.dicomweb.connection import PacsConnection
from worker.core.dicomweb.sign_in import make_authorisation, make_tls, read_sign_in
from worker.core.errors import SettingsError
from worker.core.settings import Settings


def make_dicomweb_client(settings: Settings, *, search_patience_s: float = 0.0) -> DicomwebClient:
    """Make the client without any request. Raises SettingsError for missing or contradictory settings.

    search_patience_s: see DicomwebClient.
    """
    if settings.dicomweb_url is None:
        raise SettingsError("FUNDUS_DICOMWEB_URL is not set; fix: name the PACS as https://HOST/dicom-web")
    address = parse_dicomweb_address(settings.dicomweb_url)
    sign_in = read_sign_in(settings, "dicomweb")
    connection = PacsConnection(
        address,
        authorise=make_authorisation(sign_in),
        tls=make_tls(sign_in) if address.is_encrypted else None,
        connections=settings.dicomweb_connections,
        timeout_s=settings.dicomweb_timeout_s,
        transfer_timeout_s=settings.transfer_timeout_s,
    )
    return DicomwebClient(connection, search_patience_s=search_patience_s)
