import csv
import json
import os
import sys
from dataclasses import replace
from datetime import UTC, date
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.unit.producer.ledger_rows import MODEL, NOON, add_model, change, fail, grade, make_run, references
from tests.unit.worker.console.accounts_and_runs import add_session_user, graded_run
from worker.console.decisions import ReviewForm, record_decision
from worker.console.image_detail import read_image_detail
from worker.core.errors import UsageError
from worker.core.fhir.resources import Publisher
from worker.core.manifests.image_reference import ImageReference
from worker.core.storage.folder_store import FolderStore
from worker.core.vocabulary import Eye, Finding, Grade, Status
from worker.ledger.export import export_run
from worker.ledger.export_columns import COLUMNS, EXPORT_COLUMNS
from worker.ledger.export_formats import ExportFormat, choose_format
from worker.ledger.runs import Run, find_run

SHA256 = "ab" * 32
STORE = FolderStore(Path("/store"))
PUBLISHER = Publisher("https://clinic.example/fundus")
HEADER = (
    "image_id,uri,patient_id,eye,status,grade,p_ge1,p_ge2,p_ge3,p_ge4,referable,model_flags,disagreement,model_id,"
    "overlay_uri,error_code,error_detail,attempts,reference_grade,graded_at,"
    "review,final_grade,decided_by,decided_at,decisions,outcome,final_referable,"
    "configuration_id,program_version,engine,precision,device,content_sha256,content_version,unfamiliarity,site,not_validated,findings,file,"
    "source,study_date"
)


@pytest.fixture
def run(engine: Engine) -> Run:
    add_model(engine)
    graded = ImageReference("s3://clinic/a%2C1.jpg", "b", 'Doe, "J"', Eye.LEFT, Grade.SEVERE)
    graded = replace(graded, source="NW400", study_date=date(2026, 11, 21))
    run = make_run(engine, "night", [graded, *references("a", "c")])
    grade(
        engine,
        run,
        "b",
        2,
        attempts=1,
        p_ge3=0.1234567,
        flags="not_monotone,no_evidence",
        disagreement=0.3,
        unfamiliarity=1.25,
    )
    change(engine, run, "b", content_sha256=SHA256, content_version="7", unfamiliarity=1.25)
    fail(engine, run, "a", "field_dark", Status.UNGRADABLE)
    return run


@pytest.mark.parametrize("fmt", ExportFormat)
def test_export_is_not_readable_by_other_users(engine: Engine, run: Run, fmt: ExportFormat, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        export_run(engine, STORE, run, fmt, tmp_path / "out", PUBLISHER)
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o640


def test_csv_has_exact_content(engine: Engine, run: Run, tmp_path: Path) -> None:
    assert export_run(engine, STORE, run, ExportFormat.CSV, tmp_path / "out.csv") == 3

    assert (tmp_path / "out.csv").read_text().splitlines() == [
        HEADER,
        "a,file:///a.jpg,,unknown,ungradable,,,,,,,,,,,field_dark,why,1,,,unread,,,,,ungradable,,,,,,,,,,,,,a.jpg,,",
        'b,s3://clinic/a%2C1.jpg,"Doe, ""J""",left,graded,2,0.9,0.9,0.1234567,0.1,true,"not_monotone,no_evidence",0.3,'
        f"{MODEL},file:///store/night/{MODEL}/b.png,,,1,3,2026-11-22T12:00:00+00:00,unread,2,,,,2 Moderate NPDR,true"
        f',,,,,,{SHA256},7,1.25,,,,"a,1.jpg",NW400,2026-11-21',
        "c,file:///c.jpg,,unknown,queued,,,,,,,,,,,,,0,,,unread,,,,,queued,,,,,,,,,,,,,c.jpg,,",
    ]


def test_unfinished_review_is_awaiting_reading_and_referable_until_decided(engine: Engine, tmp_path: Path) -> None:
    run = graded_run(engine, [2, 0, 0, 1, None, 3])
    anna, ben, cleo = (add_session_user(engine, name) for name in ("anna", "ben", "cleo"))

    found = {
        ("00000", "anna"): (Finding.LASER_SCARS,),
        ("00003", "anna"): (Finding.MEDIA_OPACITY,),
        ("00003", "ben"): (Finding.LASER_SCARS, Finding.MEDIA_OPACITY),
        ("00005", "ben"): (Finding.OTHER_DISEASE,),
        ("00005", "cleo"): (Finding.MACULOPATHY,),
    }

    def review(image_id: str, *given: int | None) -> None:
        last = 0
        for user, read in zip((anna, ben, cleo), given, strict=False):
            image = read_image_detail(engine, "night", image_id)
            assert image is not None
            seen = last if user is cleo else 0
            form = ReviewForm(read, "why", image.model_result, seen, findings=found.get((image_id, user.name), ()))
            last = record_decision(engine, "night", image_id, user, form, default_readers=2)

    review("00000", 0, 2)
    review("00001", 0, 2)
    review("00002", 0)
    review("00003", 0, 0)
    review("00004", 1)
    review("00005", 0, 3, 0)
    export_run(engine, STORE, run, ExportFormat.JSONL, tmp_path / "out.jsonl")

    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(line["outcome"], line["final_referable"], line["final_grade"]) for line in lines] == [
        ("Awaiting reading (model: 2 Moderate NPDR)", True, None),
        ("Awaiting reading (model: 0 No DR)", True, None),
        # The first of two decisions stays hidden, so that it does not influence the second reader.
        ("Awaiting reading (model: 0 No DR)", None, None),
        ("0 No DR", False, 0),
        ("Awaiting reading (model: ungradable)", None, None),
        ("0 No DR", False, 0),
    ]
    # Those of both readers, or of the arbitrator; none before the review is complete.
    assert [line["findings"] for line in lines] == [None, None, None, "laser_scars,media_opacity", None, "maculopathy"]


def test_json_lines_keep_types_and_order(engine: Engine, run: Run, tmp_path: Path) -> None:
    export_run(engine, STORE, run, ExportFormat.JSONL, tmp_path / "out.jsonl")

    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["image_id"] for line in lines] == ["a", "b", "c"]
    assert list(lines[1].values()) == [
        "b", "s3://clinic/a%2C1.jpg", 'Doe, "J"', "left", "graded", 2, 0.9, 0.9, 0.1234567, 0.1, True,
        "not_monotone,no_evidence", 0.3, MODEL, f"file:///store/night/{MODEL}/b.png", None, None, 1, 3,
        "2026-11-22T12:00:00+00:00", "unread", 2, None, None, None, "2 Moderate NPDR", True,
        None, None, None, None, None, SHA256, "7", 1.25, None, None, None, "a,1.jpg",
            "NW400", "2026-11-21",
    ]  # fmt: skip
    assert ",".join(lines[1]) == HEADER


def test_parquet_keeps_types_and_order(engine: Engine, run: Run, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    export_run(engine, STORE, run, ExportFormat.PARQUET, tmp_path / "out.parquet")

    table = parquet.read_table(tmp_path / "out.parquet")
    assert ",".join(table.column_names) == HEADER
    assert table["grade"].to_pylist() == [None, 2, None]
    assert table["p_ge3"].to_numpy(zero_copy_only=False)[1] == pytest.approx(0.1234567, abs=1e-8)
    assert str(table.schema.field("p_ge3").type) == "float"
    assert table["graded_at"].to_pylist()[1].astimezone(UTC) == NOON
    for_pandas = {
        column["name"]: column["numpy_type"] for column in json.loads(table.schema.metadata[b"pandas"])["columns"]
    }
    assert (for_pandas["grade"], for_pandas["referable"], for_pandas["p_ge3"]) == ("Int16", "boolean", "Float32")
    assert for_pandas.keys() == {
        column.name for column in EXPORT_COLUMNS if column.type in ("integer", "boolean", "number")
    }


def test_run_of_many_pages_is_complete_and_ordered(engine: Engine, tmp_path: Path) -> None:
    names = [f"{(7919 * number) % 10007:05d}" for number in range(10007)]
    run = make_run(engine, "big", references(*names))

    assert export_run(engine, STORE, run, ExportFormat.CSV, tmp_path / "out.csv") == 10007
    with (tmp_path / "out.csv").open() as file:
        assert [row["image_id"] for row in csv.DictReader(file)] == sorted(names)


def test_failed_export_keeps_the_existing_file(engine: Engine, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("last week's")
    lost = FolderStore(Path("relative"))  # a relative path has no URI: raises in the middle of the export

    with pytest.raises(ValueError, match="relative path"):
        export_run(engine, lost, run, ExportFormat.CSV, out)

    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == ["out.csv"]
    assert out.read_text() == "last week's"


def test_missing_folder_is_named_in_the_error(engine: Engine, tmp_path: Path) -> None:
    run = make_run(engine, "night", [])

    with pytest.raises(UsageError, match=r"cannot write .*none/out.csv: No such file"):
        export_run(engine, STORE, run, ExportFormat.CSV, tmp_path / "none" / "out.csv")


@pytest.mark.parametrize("fmt", list(ExportFormat))
def test_empty_run_gives_a_file_without_rows(engine: Engine, tmp_path: Path, fmt: ExportFormat) -> None:
    make_run(engine, "night", [])

    assert export_run(engine, STORE, find_run(engine, "night"), fmt, tmp_path / "out", PUBLISHER) == 0
    assert (tmp_path / "out").exists()


def test_parquet_without_pyarrow_names_the_extra(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(UsageError, match="needs the extra `worker`"):
        export_run(engine, STORE, make_run(engine, "night", []), ExportFormat.PARQUET, tmp_path / "out.parquet")
    assert list(tmp_path.glob("*out*")) == []


def test_columns_are_those_of_the_header() -> None:
    assert ",".join(COLUMNS) == HEADER


@pytest.mark.parametrize(
    ("name", "wanted", "chosen"),
    [
        ("night.parquet", None, ExportFormat.PARQUET),
        ("night.JSONL", None, ExportFormat.JSONL),
        ("night.csv", ExportFormat.CSV, ExportFormat.CSV),
        ("night.txt", ExportFormat.CSV, ExportFormat.CSV),
    ],
)
def test_format_is_that_of_the_name(name: str, wanted: ExportFormat | None, chosen: ExportFormat) -> None:
    assert choose_format(Path(name), wanted) is chosen


def test_name_of_another_format_is_refused() -> None:
    with pytest.raises(UsageError, match=r"night.parquet would contain csv; fix: name it .csv"):
        choose_format(Path("night.parquet"), ExportFormat.CSV)
    with pytest.raises(UsageError, match="night does not say its format; fix: "):
        choose_format(Path("night"), None)


def test_no_column_hides_an_attribute_of_a_data_frame() -> None:
    taken = {
        "index",
        "columns",
        "dtypes",
        "values",
        "axes",
        "ndim",
        "size",
        "shape",
        "empty",
        "flags",
        "attrs",
        "style",
    }
    assert not taken.intersection(COLUMNS)
