import pytest

from worker.core.manifests.personal_data import is_personal_column


@pytest.mark.parametrize(
    "column",
    [
        "name", "Name", "PATIENT_NAME", "first name", "lastName", "surname", "given-name", "Forename", "initials",
        "dob", "D.O.B.", "birth_date", "DateOfBirth", "patient_birthday", "year of birth", "Geburtsdatum",
        "mrn", "hospital_mrn", "medical_record_number", "Record No.", "chart_number", "patient record id", "nhs_number",
        "SSN", "passport_no", "Vorname", "Prenom", "Pr\u00e9nom", "Pre\u0301nom", "apellido",
        "\uff2e\uff41\uff4d\uff45", "na\u200bme",
    ],
)  # fmt: skip
def test_personal_column_is_recognised(column: str) -> None:
    assert is_personal_column(column)


@pytest.mark.parametrize(
    "column",
    [
        "uri", "image_id", "patient_id", "eye", "filename", "file_name", "camera_name", "site", "image_number", "age",
        "sex", "id", "visit_number", "device_id", "dr_grade", "study_date", "number",
    ],
)  # fmt: skip
def test_other_columns_are_not_personal(column: str) -> None:
    assert not is_personal_column(column)
