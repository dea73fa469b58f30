from pathlib import Path

import pytest

from worker.report.destination import folder_destination
from worker.report.parts import ReportParts


def test_small_report_is_embedded_in_the_page(tmp_path: Path) -> None:
    parts = ReportParts(folder_destination(tmp_path), "7", within_page_bytes=100)
    parts.add("images", 1, [{"id": "a"}])
    assert list(parts.embedded()) == [("images-1", '[{"id":"a"}]')]
    assert (parts.files, list(tmp_path.iterdir())) == ([], [])


def test_large_report_writes_every_part_to_a_file(tmp_path: Path) -> None:
    parts = ReportParts(folder_destination(tmp_path), "7", within_page_bytes=15)
    for number in (1, 2, 3):
        parts.add("images", number, [{"id": number}])
    assert list(parts.embedded()) == []
    assert parts.files == ["images-1.js", "images-2.js", "images-3.js"]
    assert (tmp_path / "images-2.js").read_text() == 'fundusPart("images-2","7",[{"id":2}]);\n'


@pytest.mark.parametrize("untrusted", ["</script><script>", "<!--", "\u2028", "ü\x00"])
def test_untrusted_text_cannot_end_a_script(tmp_path: Path, untrusted: str) -> None:
    parts = ReportParts(folder_destination(tmp_path), "7", within_page_bytes=0)
    parts.add("images", 1, [{"id": untrusted}])
    text = (tmp_path / "images-1.js").read_text("ascii")
    assert not set("<>&\u2028\x00") & set(text)
