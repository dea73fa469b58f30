from collections.abc import Callable

import pytest

from producer.doctor import model
from producer.doctor.check import CheckStatus
from producer.doctor.model import check_model
from worker.core.settings import Settings


def test_unknown_bundle_is_named(make_settings: Callable[..., Settings]) -> None:
    (check,) = check_model(make_settings(model="no-such-bundle"))

    assert check.status == CheckStatus.FAILED
    assert check.detail.startswith("no model bundle 'no-such-bundle'")


def test_producer_needs_no_model(make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "has_worker_packages", lambda: False)

    (check,) = check_model(make_settings())

    assert (check.status, check.ok) == (CheckStatus.ABSENT, True)
