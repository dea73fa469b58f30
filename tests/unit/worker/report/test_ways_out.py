import pytest

from worker.contract.errors import ImageError, ModelError
from worker.report.ways_out import DEFAULT, way_out
from worker.steps.gradability import LIMITS

CODES = {
    "no_field",
    "attempts_exhausted",
    "unexpected",
    ModelError.code,
    *(limit.code for limit in LIMITS),
    *(error.code for error in ImageError.__subclasses__()),
}


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_of_an_image_says_what_to_do(code: str) -> None:
    assert way_out(code, "night") != DEFAULT


def test_command_is_of_the_run_itself() -> None:
    assert way_out("attempts_exhausted", "night").endswith("then `fundus resend night --quarantined`.")
    assert way_out("image_missing", "night").endswith("then `fundus resend night --failed`.")
