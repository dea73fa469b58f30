"""Fuzz targets: documents and answers from outside are accepted or refused with a FundusError."""

import io
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from kombu.message import Message

from producer.sources.stack import list_stack_entries
from tests.fuzz.fuzz_result import FuzzResult, peak_memory_mb
from tests.fuzz.pacs_targets import check_pacs_answer, check_pacs_query, pacs_answers, pacs_queries
from worker.consumer.validation import check_message
from worker.core.errors import FundusError, SourceError
from worker.core.manifests.admission import AdmissionPolicy
from worker.core.manifests.manifest import COLUMNS, read_manifest
from worker.core.messaging.broker import GRADE_CHUNK
from worker.core.settings import parse_settings
from worker.core.storage.storage import Storage
from worker.imaging.steps.fetch import fetch_stack_entry
from worker.model.bundle.bundle import MANIFEST_FILE, find_bundle
from worker.model.bundle.bundle import read_manifest as read_model

Check = Callable[[Path, Any], None]

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
any_json = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
URIS = [
    "a.jpg",
    "../a.jpg",
    "/etc/passwd",
    "file:///etc/passwd",
    "s3://b/k",
    "http://h/a",
    "%2e%2e/a",
    "file:a",
    "a\0b",
]
cells = st.text(max_size=30) | st.sampled_from([*URIS, "left", "3", "0" * 64, '"', "x" * 200_000, ""])
names = st.sampled_from([*COLUMNS, "name", "dob", "other"]) | st.text(max_size=10)


def check_manifest(folder: Path, content: tuple[str, bytes]) -> None:
    """All accepted URIs stay within the manifest's folder."""
    suffix, data = content
    path = folder / f"m{suffix}"
    path.write_bytes(data)
    for reference in read_manifest(path, lambda _: None, AdmissionPolicy()):
        assert reference.uri.startswith(folder.as_uri() + "/"), reference


def check_stack(folder: Path, data: bytes) -> None:
    """A stack is read or refused, by the producer and by the worker."""
    path = folder / "x.npy"
    path.write_bytes(data)
    uri = f"{path.as_uri()}#0"
    with suppress(SourceError):
        list(islice(list_stack_entries(path, None), 10))
    entry = fetch_stack_entry(Storage(parse_settings()).sources, uri, max_bytes=2**20).data
    assert entry.nbytes <= 2**20


def check_chunk(_folder: Path, body: bytes) -> None:
    """A message is valid or refused."""
    message = Message(
        body=body,
        content_type="application/json",
        content_encoding="utf-8",
        headers={"id": str(UUID(int=0))},
        accept={"application/json"},
    )
    check_message(GRADE_CHUNK, message)


def check_model(folder: Path, document: Any) -> None:
    """A model manifest is valid or refused."""
    (folder / MANIFEST_FILE).write_text(json.dumps(document))
    read_model(folder)


def make_targets() -> dict[str, tuple[Check, st.SearchStrategy[Any]]]:
    """Return checks and input strategies by target."""
    return {
        "manifest": (check_manifest, _manifests()),
        "stack": (check_stack, _stacks()),
        "message": (check_chunk, _messages()),
        "model.json": (check_model, _models()),
        "PACS query": (check_pacs_query, pacs_queries()),
        "PACS answer": (check_pacs_answer, pacs_answers(any_json)),
    }


def fuzz_document(name: str, count: int, seed: int) -> FuzzResult:
    """Run `count` examples; any error other than FundusError is a crash."""
    check, strategy = make_targets()[name]
    result, started = FuzzResult(name), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:

        @seeded(seed)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def attempt(value: Any) -> None:
            try:
                check(Path(folder).resolve(), value)
            except FundusError as error:
                result.outcomes[error.code] += 1
            except Exception as error:  # noqa: BLE001 - any exception is a finding
                result.crashes.append(f"{type(error).__name__}: {error} for {str(value)[:200]!r}")
            else:
                result.outcomes["accepted"] += 1

        attempt()
    result.peak_mb, result.seconds = peak_memory_mb(), time.monotonic() - started
    return result


def _manifests() -> st.SearchStrategy[tuple[str, bytes]]:
    rows = st.lists(st.lists(cells, max_size=5), max_size=4)
    csv = st.builds(
        lambda head, body: "\n".join(",".join(row) for row in [["uri", *head], *body]).encode(errors="surrogatepass"),
        st.lists(names, max_size=4),
        rows,
    )
    documents = st.dictionaries(names | st.just("uri"), cells | any_json, max_size=5)
    lines = st.lists(documents.map(lambda document: json.dumps({"uri": "a.jpg"} | document)), max_size=4)
    return st.tuples(st.just(".csv"), csv | st.binary(max_size=300)) | st.tuples(
        st.just(".jsonl"), lines.map(lambda texts: "\n".join(texts).encode()) | st.binary(max_size=300)
    )


def _stacks() -> st.SearchStrategy[bytes]:
    sizes = st.sampled_from([0, 1, 2, 3, 4, -1, 2**31, 2**40, 2**63]) | st.integers(-5, 10**6)
    headers = st.fixed_dictionaries(
        {
            "descr": st.sampled_from(["|u1", "<f4", ">f4", "|O", "<f8", "|V1", "|S5", "<U9"]) | st.text(max_size=5),
            "fortran_order": st.booleans(),
            "shape": st.lists(sizes, max_size=5).map(tuple) | st.tuples(st.just(1), sizes, sizes, st.just(3)),
        }
    ).map(repr) | st.text(max_size=60)
    return st.builds(_npy, headers, st.binary(max_size=200)) | st.builds(
        _overwrite_npy, st.binary(min_size=1, max_size=8), st.integers(0, 200)
    )


def _npy(header: str, body: bytes) -> bytes:
    text = header.encode(errors="replace")[:60_000] + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def _overwrite_npy(patch: bytes, at: int) -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((2, 4, 4, 3), np.uint8))
    data = file.getvalue()
    return data[:at] + patch + data[at + len(patch) :]


def _messages() -> st.SearchStrategy[bytes]:
    chunk = {"version": 1, "run_id": 7, "image_ids": ["a"]}
    bodies = st.builds(
        lambda name, value: {**chunk, name: value}, st.sampled_from([*chunk, "path"]) | st.text(max_size=5), any_json
    )
    embedded = st.dictionaries(st.sampled_from(["chain", "callbacks", "chord"]), st.none() | any_json, max_size=2)
    payload = st.builds(lambda body, embed: [[], {"message": body}, embed], bodies | any_json, embedded)
    return st.binary(max_size=200) | (payload | any_json).map(lambda value: json.dumps(value).encode())


def _models() -> st.SearchStrategy[Any]:
    valid = json.loads((find_bundle("densenet121-aptos-224") / MANIFEST_FILE).read_text())
    recipe = valid["recipe"]
    return (
        any_json
        | st.just(valid)
        | st.builds(
            lambda name, value: {**valid, name: value}, st.sampled_from([*valid]) | st.text(max_size=8), any_json
        )
        | st.builds(
            lambda name, value: {**valid, "recipe": {**recipe, name: value}},
            st.sampled_from([*recipe]) | st.text(max_size=8),
            any_json,
        )
    )
