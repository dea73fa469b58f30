import pytest

from worker.core.errors import ImageError, ModelError
from worker.imaging.steps.gradability import GRADABILITY_LIMITS
from worker.report.remedies import DEFAULT, find_remedy

CODES = {
    "no_field",
    "attempts_exhausted",
    "unexpected",
    ModelError.code,
    *(limit.code for limit in GRADABILITY_LIMITS),
    *(error.code for error in ImageError.__subclasses__()),
}


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_error_code_of_an_image_has_a_remedy(code: str) -> None:
    assert find_remedy(code, "night") != DEFAULT


def test_commands_name_the_run() -> None:
    assert find_remedy("attempts_exhausted", "night").endswith("then `fundus resend night --quarantined`.")
    assert find_remedy("image_missing", "night").endswith("then `fundus resend night --failed`.")
