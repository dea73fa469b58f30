import pytest
from pydantic import SecretStr

from worker.core.image_name import name_below, shorten_patient_id
from worker.core.manifests.admission import hash_patient_id


@pytest.mark.parametrize(
    ("uri", "source", "name"),
    [
        ("file:///photos/7/2_left.jpg", "/photos", "7/2_left.jpg"),
        ("file:///photos/two%20words/%C3%A9.jpg", "/photos", "two words/\u00e9.jpg"),
        ("file:///photos/7/2_left.jpg", "/photos/eyes.csv", "7/2_left.jpg"),
        ("file:///photos-2/a.jpg", "/photos", "photos-2/a.jpg"),
        ("file:///data/x.npy#7", "/data/x.npy", "x.npy#7"),
        ("s3://clinic/2026/11/a.jpg", "s3://clinic/2026/", "11/a.jpg"),
        ("s3://clinic/2026/11/a.jpg", "s3://clinic/2026/1", "11/a.jpg"),
        ("s3://clinic/2026/11/a.jpg", "s3://clinic", "2026/11/a.jpg"),
        ("s3://other/2026/a.jpg", "s3://clinic/2026/", "a.jpg"),
        ("s3://clinic/a.jpg", "/photos/eyes.csv", "a.jpg"),
        ("file:///elsewhere/a.jpg", "test", "a.jpg"),
    ],
)
def test_name_is_the_path_below_the_source(uri: str, source: str, name: str) -> None:
    assert name_below(uri, source) == name


def test_pseudonym_is_shortened_and_a_patient_id_is_not() -> None:
    pseudonym = hash_patient_id("P0001", SecretStr("a key of thirty-two characters, or more"))
    assert shorten_patient_id(pseudonym) == f"{pseudonym[:12]}…"
    for patient_id in ("P0001", pseudonym[:63], pseudonym.upper()):
        assert shorten_patient_id(patient_id) == patient_id
