from datetime import date

import pytest

from producer.sources.pacs import make_pacs_query
from producer.sources.pacs_query import StudyDates, parse_pacs_query, parse_study_dates
from worker.core.errors import SourceError
from worker.core.vocabulary import DicomAdmission

DATES = "dicomweb://pacs?StudyDate=20261101-20261130"


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("20261101-20261130", date(2026, 11, 1), date(2026, 11, 30)),
        ("20261101", date(2026, 11, 1), date(2026, 11, 1)),
        ("20261101-", date(2026, 11, 1), None),
        ("-20261130", None, date(2026, 11, 30)),
    ],
)
def test_study_dates_are_parsed_and_written_alike(text: str, first: date | None, last: date | None) -> None:
    dates = parse_study_dates(text)

    assert dates == StudyDates(first, last)
    assert dates.value == text


@pytest.mark.parametrize("text", ["", "-", "2026-11-01", "20261301", "20261101-2026113", "20261130-20261101", "today"])
def test_other_study_dates_are_refused(text: str) -> None:
    with pytest.raises(SourceError, match="StudyDate"):
        parse_study_dates(text)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("dicomweb://other?StudyDate=20261101", "its address is in FUNDUS_DICOMWEB_URL"),
        ("dicomweb://user:secret@pacs?StudyDate=20261101", "its address is in FUNDUS_DICOMWEB_URL"),
        ("dicomweb://pacs/1.2.3?StudyDate=20261101", "its address is in FUNDUS_DICOMWEB_URL"),
        ("dicomweb://pacs?PatientName=secret", "'PatientName' cannot select in a PACS"),
        ("dicomweb://pacs?PatientID=secret", "'PatientID' cannot select in a PACS"),
        ("dicomweb://pacs?secret", "not of the form KEY=VALUE"),
        ("dicomweb://pacs?Modality=", "Modality must be one or several values"),
        ("dicomweb://pacs?Modality=OP&Modality=XC", "Modality is given twice"),
        ("dicomweb://pacs?StudyInstanceUID=secret", "StudyInstanceUID must be a UID"),
    ],
)
def test_other_sources_are_refused_without_repeating_a_value(location: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        parse_pacs_query(location)

    assert "secret" not in str(caught.value)


def test_location_has_its_keys_in_one_order() -> None:
    query = parse_pacs_query("dicomweb://pacs?Modality=OP&StudyDate=20261101-&StudyInstanceUID=1.2,1.3")

    assert query.location == "dicomweb://pacs?StudyDate=20261101-&StudyInstanceUID=1.2,1.3&Modality=OP"
    assert parse_pacs_query("dicomweb://pacs").location == "dicomweb://pacs"


def test_studies_with_ophthalmic_photographs_are_searched_by_default() -> None:
    usual = make_pacs_query(DATES, studies_since=None, admitted=[DicomAdmission.MONOCHROME])
    others = make_pacs_query(DATES, studies_since=None, admitted=[DicomAdmission.VL_PHOTOGRAPHIC])

    assert usual.study_parameters == [("StudyDate", "20261101-20261130"), ("ModalitiesInStudy", "OP")]
    assert others.study_parameters == [("StudyDate", "20261101-20261130")]


def test_source_without_dates_gets_those_of_the_night() -> None:
    query = make_pacs_query("dicomweb://pacs", studies_since=date(2026, 11, 16), admitted=[])

    assert query.dates == StudyDates(date(2026, 11, 16))
    with pytest.raises(SourceError, match="would read the whole archive; fix: add StudyDate"):
        make_pacs_query("dicomweb://pacs?Modality=OP", studies_since=None, admitted=[])


def test_answers_of_a_pacs_that_ignores_the_query_do_not_match() -> None:
    query = parse_pacs_query(f"{DATES}&ModalitiesInStudy=OP&StationName=CAM[1*,b?&SOPInstanceUID=1.2,1.3")
    study = {"00080020": {"Value": ["20261102"]}, "00080061": {"Value": ["SR", "OP"]}}
    instance = {"00081010": {"Value": ["cam[1-left"]}, "00080018": {"Value": ["1.3"]}}

    assert query.matches_study(study)
    assert query.matches_study({**study, "00080061": {}})
    assert not query.matches_study({**study, "00080061": {"Value": ["CT"]}})
    assert not query.matches_study({**study, "00080020": {"Value": ["20261201"]}})
    assert not query.matches_study({**study, "00080020": {}})
    assert query.matches_instance(instance)
    assert query.matches_instance({**instance, "00081010": {"Value": ["B2"]}})
    assert not query.matches_instance({**instance, "00081010": {"Value": ["CAM2"]}})
    assert not query.matches_instance({**instance, "00081010": {}})
    assert not query.matches_instance({**instance, "00080018": {"Value": ["1.4"]}})
    # QIDO has lists of UIDs alone.
    assert query.instance_parameters == [("SOPInstanceUID", "1.2,1.3")]
