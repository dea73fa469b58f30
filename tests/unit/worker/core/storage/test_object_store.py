"""The contract of every object store: each test runs with a folder and with a bucket."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest

from worker.core.settings import parse_settings
from worker.core.storage.object_store import CACHE_REVALIDATE, ObjectStore
from worker.core.storage.storage import Storage

PNG = {"content_type": "image/png", "metadata": {}}
LARGE = bytes(range(256)) * 4096


def test_file_is_stored_and_its_download_url_opens_it(store: ObjectStore, tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(LARGE)
    for _ in range(2):
        store.put_file("run/report/table.csv", file, content_type="text/csv")
    assert store.get("run/report/table.csv") == LARGE
    with urlopen(store.download_url("run/report/table.csv", expires_s=60)) as answer:
        assert answer.read() == LARGE
        if answer.url.startswith("http"):
            assert (answer.headers["Content-Type"], answer.headers["Cache-Control"]) == ("text/csv", CACHE_REVALIDATE)


def test_get_returns_what_was_put(store: ObjectStore) -> None:
    store.put("run/model/image.png", LARGE, **PNG)
    assert store.get("run/model/image.png") == LARGE


def test_second_put_replaces_the_first(store: ObjectStore) -> None:
    store.put("image.png", LARGE, **PNG)
    store.put("image.png", b"short", **PNG)
    assert store.get("image.png") == b"short"


def test_object_may_be_empty(store: ObjectStore) -> None:
    store.put("empty", b"", **PNG)
    assert store.get("empty") == b""


def test_missing_object_raises_key_error(store: ObjectStore) -> None:
    with pytest.raises(KeyError, match="nowhere"):
        store.get("nowhere.png")


def test_delete_prefix_deletes_nothing_outside_the_prefix(store: ObjectStore) -> None:
    for key in ("run/report/a.js", "run/report/b.js", "run/report2/a.js", "run/image.png"):
        store.put(key, b"x", content_type="text/javascript", metadata={})
    store.delete_prefix("run/report/")
    store.delete_prefix("run/report/")
    for key in ("run/report/a.js", "run/report/b.js"):
        with pytest.raises(KeyError):
            store.get(key)
    assert [store.get(key) for key in ("run/report2/a.js", "run/image.png")] == [b"x", b"x"]


def test_object_may_be_deleted_twice(store: ObjectStore) -> None:
    store.put("run/image.png", b"x", **PNG)
    store.delete("run/image.png")
    store.delete("run/image.png")
    with pytest.raises(KeyError):
        store.get("run/image.png")


def test_objects_are_listed_below_a_prefix_with_their_age(store: ObjectStore) -> None:
    before = datetime.now(UTC)
    for key in ("run/model/a.png", "run/report/b.js", "run2/model/a.png"):
        store.put(key, b"x", **PNG)
    listed = {item.key: item.modified_at for item in store.list_objects("run/")}
    assert sorted(listed) == ["run/model/a.png", "run/report/b.js"]
    assert all(abs(at - before) < timedelta(minutes=1) for at in listed.values())
    assert list(store.list_objects("nothing/")) == []


def test_more_objects_than_one_request_takes_are_deleted(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.core.storage.s3_store.KEYS_PER_REQUEST", 2)
    keys = [f"run/model/{number} & <more>.png" for number in range(5)]
    for key in (*keys, "run/model/kept.png"):
        store.put(key, b"x", **PNG)
    assert store.delete_many([*keys, "run/model/absent.png"]) == {}
    assert [item.key for item in store.list_objects("run/")] == ["run/model/kept.png"]


def test_uri_of_an_object_can_be_read_as_a_source(store: ObjectStore) -> None:
    store.put("run/image.png", b"x", **PNG)
    assert Storage(parse_settings()).sources.read(store.uri("run/image.png"), max_bytes=1).data == b"x"
