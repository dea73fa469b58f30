"""The facts of an instance are read from DICOM JSON; nothing else of the header is, and no error repeats it."""

from datetime import date
from typing import Any

import pytest

from worker.core.dicom.instance_header import InstanceHeader, read_instance_header, read_patient_id
from worker.core.errors import ImageDecodeError
from worker.core.uris import parse_dicomweb_uri
from worker.core.vocabulary import Eye

OP = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
Json = dict[str, Any]


def attribute(vr: str, *values: object) -> Json:
    return {"vr": vr, "Value": list(values)}


def code(value: str, **more: object) -> Json:
    return {"00080100": attribute("SH", value), "00080104": attribute("LO", "a meaning"), **more}


def metadata(**changed: object) -> Json:
    """Return the DICOM JSON of a photograph of a right eye; names are tags, such as T00200062."""
    attributes: Json = {
        "T00080008": attribute("CS", "ORIGINAL", "PRIMARY", None, "COLOR"),
        "T00080016": attribute("UI", OP),
        "T00080018": attribute("UI", "2.25.17"),
        "T00080020": attribute("DA", "20261128"),
        "T00081090": attribute("LO", "NW400"),
        "T00082218": attribute("SQ", code("5665001")),
        "T00100020": attribute("LO", "1001"),
        "T0020000D": attribute("UI", "2.25.1"),
        "T0020000E": attribute("UI", "2.25.2"),
        "T00200062": attribute("CS", "R"),
        "T00220015": attribute("SQ", code("409898007")),
        "T00280004": attribute("CS", "YBR_FULL_422"),
        "T00280008": attribute("IS", 1),
    }
    return {name.removeprefix("T"): value for name, value in (attributes | changed).items() if value is not None}


def test_facts_of_a_photograph() -> None:
    assert read_instance_header(metadata()) == InstanceHeader(
        sop_class_uid=OP,
        sop_instance_uid="2.25.17",
        study_uid="2.25.1",
        series_uid="2.25.2",
        study_date=date(2026, 11, 28),
        eye=Eye.RIGHT,
        camera_model="NW400",
        image_type=("ORIGINAL", "PRIMARY", "", "COLOR"),
        devices=frozenset({"409898007"}),
        regions=frozenset({"5665001"}),
        photometric_interpretation="YBR_FULL_422",
    )


def test_a_source_may_give_the_two_uids_alone() -> None:
    header = read_instance_header({"00080016": attribute("UI", OP), "00080018": attribute("UI", "2.25.17")})
    assert header == InstanceHeader(OP, "2.25.17")
    assert (header.eye, header.frames) == (Eye.UNKNOWN, 1)


LEFT_REGION = code("5665001", **{"00082220": attribute("SQ", code("7771000"))})


@pytest.mark.parametrize(
    ("changed", "eye", "is_contradictory"),
    [
        ({"T00200062": attribute("CS", "L")}, Eye.LEFT, False),
        ({"T00200062": attribute("CS", "B")}, Eye.UNKNOWN, False),
        ({"T00200062": None}, Eye.UNKNOWN, False),
        ({"T00200062": attribute("CS")}, Eye.UNKNOWN, False),
        ({"T00200062": attribute("CS", "both of them")}, Eye.UNKNOWN, False),
        ({"T00200062": None, "T00200060": attribute("CS", "L")}, Eye.LEFT, False),
        ({"T00200060": attribute("CS", "R")}, Eye.RIGHT, False),
        ({"T00200060": attribute("CS", "L")}, Eye.UNKNOWN, True),
        ({"T00200062": None, "T00082218": attribute("SQ", LEFT_REGION)}, Eye.LEFT, False),
        ({"T00082218": attribute("SQ", LEFT_REGION)}, Eye.UNKNOWN, True),
    ],
)
def test_eye_is_never_guessed(changed: Json, eye: Eye, is_contradictory: bool) -> None:  # noqa: FBT001
    header = read_instance_header(metadata(**changed))
    assert (header.eye, header.eye_is_contradictory) == (eye, is_contradictory)


@pytest.mark.parametrize("uid", ["1.02.3", "1"])
def test_uid_of_a_header_may_be_any_that_a_uri_may_have(uid: str) -> None:
    header = read_instance_header(metadata(T00080018=attribute("UI", uid)))
    assert header.sop_instance_uid == uid
    assert parse_dicomweb_uri(f"dicomweb://pacs/2.25.1/2.25.2/{uid}").instance == uid


@pytest.mark.parametrize("uid", ["", "not-a-uid MARK", "1.2/../MARK", "1.", "1." + "2" * 63, "1.2\nMARK"])
def test_malformed_uid_is_refused_and_not_repeated(uid: str) -> None:
    with pytest.raises(ImageDecodeError, match=r"SOP Instance UID \(0008,0018\) is missing or malformed") as caught:
        read_instance_header(metadata(T00080018=attribute("UI", uid)))
    assert "MARK" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [None, 7, "R", [], {"vr": "CS"}, {"Value": "R"}, {"Value": [{"Alphabetic": "A^B"}]}, {"Value": [[["R"]]]}]
)
def test_malformed_attributes_count_as_absent(wrong: object) -> None:
    names = ("T00080008", "T00080020", "T00081090", "T00082218", "T00200062", "T00220015", "T00280004", "T00280008")
    header = read_instance_header(metadata(**dict.fromkeys(names, wrong)))
    assert (header.eye, header.study_date, header.camera_model, header.frames) == (Eye.UNKNOWN, None, None, 1)
    assert not header.regions | header.devices


def test_patient_id_has_its_issuer() -> None:
    assert read_patient_id(metadata()) == "1001"
    assert read_patient_id(metadata(T00100021=attribute("LO", "CLINIC A"))) == "1001^^^CLINIC A"
    assert read_patient_id(metadata(T00100020=None, T00100021=attribute("LO", "CLINIC A"))) is None


def test_facts_do_not_have_the_patient() -> None:
    named = metadata(
        T00100010=attribute("PN", {"Alphabetic": "MARK^NAME"}),
        T00100020=attribute("LO", "MARK ID"),
        T00100030=attribute("DA", "19600101"),
        T00080050=attribute("SH", "MARK ACCESSION"),
        T00081090=attribute("LO", "MARK: a model with a comment"),
    )
    assert "MARK" not in repr(read_instance_header(named))
    assert "1960" not in repr(read_instance_header(named))
