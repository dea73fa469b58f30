import re

import pytest

from producer.sources.naming import NamingRules, find_eye, read_names
from worker.core.errors import SourceError
from worker.core.manifests.image_reference import ImageReference
from worker.core.vocabulary import Eye


@pytest.mark.parametrize(
    ("name", "eye"),
    [
        ("2_right.jpeg", Eye.RIGHT),
        ("IMG_OD_0007.jpg", Eye.RIGHT),
        ("10003L.png", Eye.LEFT),
        ("OS/0007.jpg", Eye.LEFT),
        ("left/0007_OD.jpg", Eye.RIGHT),
        ("model.jpg", Eye.UNKNOWN),
        ("bright.jpg", Eye.UNKNOWN),
        ("left_and_right.jpg", Eye.UNKNOWN),
    ],
)
def test_eye_is_a_word_of_the_name(name: str, eye: Eye) -> None:
    assert find_eye(name) is eye


def read(pattern: str, *paths: str) -> tuple[list[ImageReference], list[str]]:
    warnings: list[str] = []
    given = iter([ImageReference(f"file:///photos/{path}") for path in paths])
    return list(
        read_names(given, "/photos", NamingRules(eye=True, patient=re.compile(pattern)), warnings.append)
    ), warnings


@pytest.mark.parametrize("pattern", [r"^([0-9]+)/", r"^(?P<patient>[0-9]+)/(.*)", r"^[0-9]+"])
def test_patient_is_read_from_the_path(pattern: str) -> None:
    found, warnings = read(pattern, "17/OD.jpg", "17/OS.jpg", "18/OS.jpg")

    assert [(one.patient_id, one.eye) for one in found] == [("17", "right"), ("17", "left"), ("18", "left")]
    assert warnings == []


def test_paths_that_name_nobody_are_counted() -> None:
    found, warnings = read(r"^([0-9]+)/", "17/OD.jpg", "a.jpg", "b.jpg")

    assert [one.patient_id for one in found] == ["17", None, None]
    assert warnings == [
        "images whose name does not say one eye: 2",
        "images whose path does not match --patient-from: 2",
    ]


def test_patient_id_that_a_spreadsheet_would_compute_is_refused() -> None:
    with pytest.raises(SourceError, match=r"=1/a.jpg: patient id begins with '='"):
        read(r"^([^/]+)/", "=1/a.jpg")
