import pytest

from worker.core.manifests.fields import parse_eye
from worker.core.vocabulary import Eye


@pytest.mark.parametrize(
    ("text", "eye"),
    [
        *((text, Eye.RIGHT) for text in ("right", "Right", "OD", "od", "R")),
        *((text, Eye.LEFT) for text in ("left", "OS", "os", "L", "l")),
        *((text, Eye.UNKNOWN) for text in ("unknown", "Unknown", "")),
    ],
)
def test_eye_has_many_spellings(text: str, eye: Eye) -> None:
    assert parse_eye(text) == eye
