import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.errors import MessageError
from worker.core.messages import IMAGE_ID_PATTERN, MAX_CHUNK_IMAGES, GradeChunk

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
any_json = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
image_ids = st.from_regex(IMAGE_ID_PATTERN, fullmatch=True)
valid_bodies = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "run_id": st.integers(1, 2**63 - 1),
        "image_ids": st.lists(image_ids, min_size=1, max_size=MAX_CHUNK_IMAGES),
    }
)


def nearly_valid(body: dict[str, Any]) -> st.SearchStrategy[object]:
    """Replace or add one field of `body` with an arbitrary value."""
    names = st.sampled_from([*body, "extra"])
    return st.builds(lambda name, value: {**body, name: value}, names, any_json | st.lists(image_ids | scalars))


@given(any_json | valid_bodies | valid_bodies.flatmap(nearly_valid))
def test_any_json_round_trips_or_is_refused(body: object) -> None:
    try:
        chunk = GradeChunk.decode(json.loads(json.dumps(body)))
    except MessageError:
        return
    # Compare as text: in Python True == 1 and 1.0 == 1.
    assert json.dumps(chunk.encode(), sort_keys=True) == json.dumps(body, sort_keys=True)


@given(valid_bodies)
def test_every_valid_body_is_accepted(body: dict[str, Any]) -> None:
    chunk = GradeChunk.decode(body)
    assert chunk == GradeChunk(run_id=body["run_id"], image_ids=tuple(body["image_ids"]))


@pytest.mark.parametrize("version", [2, 0, "1", None, True, 1.0, [1]])
def test_unsupported_version_is_refused(version: object) -> None:
    with pytest.raises(MessageError) as caught:
        GradeChunk.decode({"version": version, "run_id": 1, "image_ids": ["a"]})
    assert caught.value.code == "message_version"
    assert caught.value.detail == f"message version {version!r} is not supported; this worker needs 1"


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("run_id", 0, "run_id"),
        ("run_id", 2**63, "run_id"),
        ("run_id", "1", "run_id"),
        ("run_id", True, "run_id"),
        ("image_ids", [], "image_ids"),
        ("image_ids", ["a"] * (MAX_CHUNK_IMAGES + 1), "image_ids"),
        ("image_ids", "abc", "image_ids"),
        ("image_ids", ["a", "../../etc/passwd"], "image_ids.1"),
        ("image_ids", ["a\n"], "image_ids.0"),
        ("image_ids", [".hidden"], "image_ids.0"),
        ("image_ids", ["x" * 129], "image_ids.0"),
        ("image_ids", [7], "image_ids.0"),
        ("path", "/etc/passwd", "path"),
    ],
)
def test_error_names_the_field(field: str, value: object, named: str) -> None:
    with pytest.raises(MessageError) as caught:
        GradeChunk.decode({"version": 1, "run_id": 1, "image_ids": ["a"], field: value})
    assert caught.value.detail.startswith(f"{named}: ")
    assert caught.value.code == "message_invalid"


def test_largest_chunk_is_accepted() -> None:
    ids = [f"image-{number}" for number in range(MAX_CHUNK_IMAGES)]
    assert GradeChunk.decode({"version": 1, "run_id": 1, "image_ids": ids}).image_ids == tuple(ids)
