from pathlib import Path

import pytest

from worker.core.errors import StorageError
from worker.core.storage.folder_store import FolderStore

PNG = {"content_type": "image/png", "metadata": {}}


@pytest.mark.parametrize("key", ["/etc/passwd", "../outside.png", "run/../../outside.png"])
def test_key_outside_the_folder_is_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="points outside the store"):
        FolderStore(tmp_path).put(key, b"x", **PNG)


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("run/image.png", b"before", **PNG)
    with pytest.raises(TypeError):
        store.put("run/image.png", "no bytes", **PNG)  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["image.png"]
    assert store.get("run/image.png") == b"before"


def test_store_folder_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.write_bytes(b"")
    with pytest.raises(StorageError, match=str(folder)):
        FolderStore(folder).put("run/image.png", b"x", **PNG)
