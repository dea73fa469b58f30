from pathlib import Path

import pytest

from worker.report.destination import folder_destination
from worker.report.parts import Parts


def test_small_report_is_held_in_the_page(tmp_path: Path) -> None:
    parts = Parts(folder_destination(tmp_path), "7", within_page_bytes=100)
    parts.add("images", 1, [{"id": "a"}])
    assert list(parts.kept()) == [("images-1", '[{"id":"a"}]')]
    assert (parts.files, list(tmp_path.iterdir())) == ([], [])


def test_large_report_lies_beside_the_page_from_its_first_part_on(tmp_path: Path) -> None:
    parts = Parts(folder_destination(tmp_path), "7", within_page_bytes=15)
    for number in (1, 2, 3):
        parts.add("images", number, [{"id": number}])
    assert list(parts.kept()) == []
    assert parts.files == ["images-1.js", "images-2.js", "images-3.js"]
    assert (tmp_path / "images-2.js").read_text() == 'fundusPart("images-2","7",[{"id":2}]);\n'


@pytest.mark.parametrize("words", ["</script><script>", "<!--", "\u2028", "ü\x00"])
def test_words_of_strangers_cannot_end_a_script(tmp_path: Path, words: str) -> None:
    parts = Parts(folder_destination(tmp_path), "7", within_page_bytes=0)
    parts.add("images", 1, [{"id": words}])
    text = (tmp_path / "images-1.js").read_text("ascii")
    assert not set("<>&\u2028\x00") & set(text)
