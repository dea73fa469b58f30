"""The columns of an export: name, type and meaning of each, from which the data dictionary is made."""

from dataclasses import dataclass
from enum import StrEnum


class ColumnType(StrEnum):
    """Type of a column. Every column may be empty: no number is 0 and no answer is false for lack of a value."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Column:
    """One column. meaning: a phrase for the data dictionary, with unit and range."""

    name: str
    type: ColumnType
    meaning: str


TEXT, INTEGER, NUMBER, BOOLEAN, TIME = ColumnType

EXPORT_COLUMNS = (
    Column("image_id", TEXT, "identifier of the image, as in the manifest, or computed from `uri`; never empty"),
    Column("uri", TEXT, "where the photograph was read: `file:` or `s3:`; never empty"),
    Column("patient_id", TEXT, "from the manifest or the path; empty if unknown"),
    Column("eye", TEXT, "`right`, `left` or `unknown`"),
    Column("status", TEXT, "`graded`, `ungradable`, `failed`, `quarantined`, `cancelled`, or still `queued`"),
    Column("grade", INTEGER, "the model's ICDR grade, 0 to 4; empty unless `status` is `graded`"),
    Column("p_ge1", NUMBER, "model score for grade 1 or worse, 0 to 1"),
    Column("p_ge2", NUMBER, "model score for grade 2 or worse (referable), 0 to 1"),
    Column("p_ge3", NUMBER, "model score for grade 3 or worse, 0 to 1"),
    Column("p_ge4", NUMBER, "model score for grade 4, 0 to 1"),
    Column("referable", BOOLEAN, "whether the model's grade is 2 or worse"),
    Column("model_flags", TEXT, "findings of the program about the grade, separated by commas; empty text without one"),
    Column("disagreement", NUMBER, "standard deviation of the expected grades of an ensemble's members, 0 to 2"),
    Column("model_id", TEXT, "start of the SHA-256 of the model's weights"),
    Column("overlay_uri", TEXT, "where the overlay is; empty if the image has no overlay or retention removed it"),
    Column("error_code", TEXT, "why a settled image has no grade, or which service failed a queued one last"),
    Column("error_detail", TEXT, "the same as a sentence with numbers"),
    Column("attempts", INTEGER, "how often workers began to grade the image"),
    Column("reference_grade", INTEGER, "the grade that the source came with, 0 to 4"),
    Column("graded_at", TIME, "when the model's grade was recorded"),
    Column("review", TEXT, "`unread`, `half_read`, `disputed`, `read` or `arbitrated`"),
    Column("final_grade", INTEGER, "the readers' grade, or the model's without a reading; empty under review"),
    Column("decided_by", TEXT, "account of the reader whose decision counts"),
    Column("decided_at", TIME, "when that decision was made"),
    Column("decisions", TEXT, "all decisions in their order"),
    Column("outcome", TEXT, "the final grade in words, or why the image has no grade"),
    Column("final_referable", BOOLEAN, "whether the eye is referred; true while readers differ about it"),
    Column("configuration_id", TEXT, "identifier of what computed the outcome: the next four columns and more"),
    Column("program_version", TEXT, "version of the program"),
    Column("engine", TEXT, "what ran the network, such as `openvino`"),
    Column("precision", TEXT, "what it computed in, such as `bfloat16`"),
    Column("device", TEXT, "on what"),
    Column("content_sha256", TEXT, "SHA-256 of the bytes that were graded; of a DICOM file, of its pixel data"),
    Column("content_version", TEXT, "version that the store gave these bytes"),
    Column("unfamiliarity", NUMBER, "distance from the training photographs, above 1 for 2 % of held-out ones"),
    Column("site", TEXT, "where the photographs of the run were taken"),
    Column("not_validated", TEXT, "the warning that the model is not accepted at the site"),
    Column("findings", TEXT, "what readers recorded in addition to the grade, separated by commas"),
    Column("file", TEXT, "path of the photograph below the source of the run; never empty"),
    Column("source", TEXT, "camera model of the DICOM header, or `source` of the manifest; empty if unknown"),
    Column("study_date", TEXT, "date of the DICOM study, `YYYY-MM-DD`; empty if unknown"),
)  # fmt: skip
"""In the order of every format. New ones are added at the end."""

COLUMNS = tuple(column.name for column in EXPORT_COLUMNS)
