import pytest

from worker.core.dicomweb.address import parse_dicomweb_address


@pytest.mark.parametrize(
    ("text", "url", "host"),
    [
        ("https://pacs.clinic.org/dicom-web/", "https://pacs.clinic.org/dicom-web", "pacs.clinic.org"),
        ("https://pacs.clinic.org:8443/a/rs", "https://pacs.clinic.org:8443/a/rs", "pacs.clinic.org:8443"),
        ("http://127.0.0.1:8042/dicom-web", "http://127.0.0.1:8042/dicom-web", "127.0.0.1:8042"),
        ("http://localhost/dicom-web", "http://localhost/dicom-web", "localhost"),
        ("http://orthanc:8042/dicom-web?plain_http=true", "http://orthanc:8042/dicom-web", "orthanc:8042"),
    ],
)
def test_address_is_parsed(text: str, url: str, host: str) -> None:
    address = parse_dicomweb_address(text)

    assert (address.url, address.host) == (url, host)
    assert address.is_encrypted == text.startswith("https:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://secret-host/dicom-web", "unencrypted; fix: use https://"),
        ("https://user:secret-word@pacs/dicom-web", "must not contain a user or password"),
        ("https://pacs/dicom-web?token=secret-word", "nor a query except"),
        ("https://pacs/dicom-web#secret-word", "must not have a fragment"),
        ("ftp://pacs/secret-word", "must be https://HOST/PATH"),
        ("secret-word", "must be https://HOST/PATH"),
        ("https://[secret-word/", "is not a URL"),
    ],
)
def test_wrong_address_is_refused_without_repeating_it(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_dicomweb_address(text)

    assert "secret" not in str(caught.value)
