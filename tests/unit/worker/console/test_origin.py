from collections.abc import Callable

import pytest
from starlette.datastructures import Headers

from worker.console.origin import make_origin
from worker.core.errors import SettingsError
from worker.core.settings import Settings


def test_loopback_requires_no_setting_and_no_tls(make_settings: Callable[..., Settings]) -> None:
    origin = make_origin(make_settings(), "127.0.0.1", 8080)
    assert not origin.secure
    for host in ("127.0.0.1:8080", "localhost:8080", "[::1]:8080", "LOCALHOST:8080"):
        assert origin.matches_host(Headers({"host": host}))
    for host in ("127.0.0.1", "127.0.0.1:8081", "evil.example:8080", "", "127.0.0.1:8080.evil.example"):
        assert not origin.matches_host(Headers({"host": host}))


def test_other_hosts_require_the_console_url(make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(SettingsError, match=r"cannot serve on 0\.0\.0\.0 without FUNDUS_CONSOLE_URL"):
        make_origin(make_settings(), "0.0.0.0", 8080)
    origin = make_origin(make_settings(console_url="https://grading.example.org"), "0.0.0.0", 8080)
    assert origin.secure
    for host in ("grading.example.org", "grading.example.org:443"):
        assert origin.matches_host(Headers({"host": host}))
    assert not origin.matches_host(Headers({"host": "127.0.0.1:8080"}))


@pytest.mark.parametrize(
    "url",
    [
        "http://grading.example.org",
        "http://10.0.0.7:8080",
        "ftp://127.0.0.1",
        "grading.example.org",
        "https://",
        "https://grading.example.org/console",
        "https://anna:secret@grading.example.org",
    ],
)
def test_address_without_tls_is_refused(url: str, make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(SettingsError, match="FUNDUS_CONSOLE_URL: must be https") as caught:
        make_settings(console_url=url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({}, True),
        ({"origin": "http://127.0.0.1:8080"}, True),
        ({"origin": "http://localhost:8080"}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"origin": "https://127.0.0.1:8080"}, False),
        ({"origin": "http://127.0.0.1:9090"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "none"}, False),
    ],
)
def test_form_of_another_site_is_detected(
    headers: dict[str, str], *, own: bool, make_settings: Callable[..., Settings]
) -> None:
    origin = make_origin(make_settings(), "127.0.0.1", 8080)
    assert origin.is_same_origin(Headers(headers)) is own
