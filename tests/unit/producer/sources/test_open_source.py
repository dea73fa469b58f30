from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from producer.sources.open_source import Source, open_source
from worker.core.errors import SourceError
from worker.core.manifests.admission import make_admission_policy
from worker.core.settings import Settings
from worker.core.storage.storage import Storage

Open = Callable[..., Source]


@pytest.fixture
def opened(make_settings: Callable[..., Settings]) -> Open:
    settings = make_settings(storage_url="s3://clinic/overlays")
    storage, admission = Storage(settings), make_admission_policy(settings)
    return lambda text, labels=None: open_source(
        str(text), storage=storage, admission=admission, on_warning=print, labels=labels
    )


def test_folder_is_opened(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "labels.csv").write_text("image,dr_grade\na,3\n")

    source = opened(tmp_path, tmp_path / "labels.csv")

    assert source.location == str(tmp_path)
    assert [(r.uri, r.reference_grade) for r in source.references] == [((tmp_path / "a.jpg").as_uri(), 3)]


def test_file_uri_of_a_folder_is_opened(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "two words").mkdir()
    (tmp_path / "two words" / "a.jpg").touch()

    assert len(list(opened((tmp_path / "two words").as_uri()).references)) == 1


@pytest.mark.parametrize("name", ["m.csv", "M.CSV"])
def test_manifest_is_opened(opened: Open, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("uri\ns3://clinic/a.jpg\n")

    assert [reference.uri for reference in opened(tmp_path / name).references] == ["s3://clinic/a.jpg"]


def test_stack_is_opened(opened: Open, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 4, 4, 3), np.uint8))

    assert len(list(opened(tmp_path / "x.npy").references)) == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ftp://host/x", "unsupported scheme 'ftp', use file, s3 or dicomweb"),
        ("file://server/x", "not of the form file:///DIR/NAME"),
        ("/no/such/folder", "no file or folder at /no/such/folder"),
        ("/dev/null", "no file or folder at /dev/null"),
    ],
)
def test_unsupported_or_missing_source_is_refused_at_once(opened: Open, text: str, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        opened(text)


def test_unknown_kind_of_file_is_refused_at_once(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").touch()

    with pytest.raises(SourceError, match=r"x.pkl is not a folder, a manifest \(.csv, .jsonl\) or an .npy stack"):
        opened(tmp_path / "x.pkl")


def test_labels_with_a_manifest_are_refused(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("uri\na.jpg\n")

    with pytest.raises(SourceError, match=r"put the grades of .*labels.csv into its column reference_grade"):
        opened(tmp_path / "m.csv", tmp_path / "labels.csv")


def test_invalid_last_row_refuses_the_whole_manifest(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "eyes.csv").write_text("uri,reference_grade\n" + "a.jpg,2\n" * 5000 + "b.jpg,7\n")
    with pytest.raises(SourceError, match="line 5002, column reference_grade: '7' is not a grade"):
        opened(tmp_path / "eyes.csv")
