"""Fuzz targets of the PACS: queries of sources, and answers of a hostile or broken archive."""

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from producer.sources.pacs import list_pacs_images
from producer.sources.pacs_query import KEYS, PacsQuery, parse_pacs_query
from worker.core.dicom.instance_header import HEADER_TAGS, PATIENT_TAGS
from worker.core.dicomweb.client import DicomwebClient
from worker.core.dicomweb.connection import Answer
from worker.core.errors import ImageMissingError, ImageTooLargeError, StorageError
from worker.core.uris import InstancePath, parse_dicomweb_uri

MAX_BYTES = 1000
INSTANCE = InstancePath("1.2.3", "1.2.3.4", "1.2.3.4.5")
TAGS = [*HEADER_TAGS, *PATIENT_TAGS, "00081155", "00081197", "00081198", "00081199"]
OPHTHALMIC_PHOTOGRAPHY = "1.2.840.10008.5.1.4.1.1.77.1.5.1"


class HostileConnection:
    """Gives the same answer to each request."""

    host = "pacs"

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def request(self, *_: object, **__: object) -> Answer:
        return self._answer


def check_pacs_query(_folder: Path, location: str) -> None:
    """A query is parsed alike when it is written again, or refused."""
    query = parse_pacs_query(location)
    assert parse_pacs_query(query.location) == query
    assert "Patient" not in query.location


def check_pacs_answer(_folder: Path, answer: Answer) -> None:
    """Each verb accepts or refuses an answer; what is listed has valid UIDs, and no file exceeds the limit."""
    client = DicomwebClient(HostileConnection(answer))  # type: ignore[arg-type]
    refusals = []
    for verb in (
        lambda: len(client.retrieve(INSTANCE, max_bytes=MAX_BYTES)) <= MAX_BYTES,
        lambda: bool(client.metadata(INSTANCE)) or True,
        lambda: client.store([b"file"]).status in (200, 202, 409),
        lambda: all(
            parse_dicomweb_uri(reference.uri)
            for reference in list_pacs_images(client, PacsQuery(), admitted=(), on_warning=lambda _: None)
        ),
    ):
        try:
            assert verb()
        except (ImageMissingError, ImageTooLargeError, StorageError) as error:
            refusals.append(error)
    if len(refusals) == 4:
        raise refusals[0]


def pacs_queries() -> st.SearchStrategy[str]:
    values = st.text(max_size=20) | st.sampled_from(
        ["20261101-20261130", "20261101-", "-", "1.2.3", "1.2,1.3", "OP", "*["]
    )
    pairs = st.tuples(st.sampled_from([*KEYS, "PatientName", "%50atientID"]) | st.text(max_size=8), values)
    query = st.lists(pairs.map("=".join), max_size=4).map("&".join)
    return st.one_of(query.map(lambda text: f"dicomweb://pacs?{text}"), st.text(max_size=40).map("dicomweb:".__add__))


def pacs_answers(any_json: st.SearchStrategy[Any]) -> st.SearchStrategy[Answer]:
    uids = st.sampled_from(["1.2.3", "1.2.4", OPHTHALMIC_PHOTOGRAPHY, "../../x", "1" * 65, ""]) | st.text(max_size=8)
    values = st.lists(uids | any_json, max_size=3)
    attributes = st.one_of(values.map(lambda found: {"vr": "UI", "Value": found}), any_json)
    valid = {
        "00080016": {"Value": [OPHTHALMIC_PHOTOGRAPHY]},
        **{
            tag: {"Value": [uid]}
            for tag, uid in zip(("0020000D", "0020000E", "00080018"), ("1.2", "1.3", "1.4"), strict=True)
        },
    }
    datasets = st.dictionaries(st.sampled_from(TAGS), attributes, max_size=6).map(lambda found: {**valid, **found})
    documents = (st.lists(datasets, max_size=3) | datasets | any_json).map(lambda value: json.dumps(value).encode())
    pieces = st.sampled_from(
        [b"--b1", b"--b1--", b"\r\n", b"\r\n\r\n", b"Content-Type: application/dicom", b"DICM" * 300, b"--"]
    ) | st.binary(max_size=20)
    types = st.sampled_from(
        ['multipart/related; type="application/dicom"; boundary=b1', "application/dicom", "application/dicom+json", ""]
    ) | st.text(max_size=20)
    bodies = documents | st.lists(pieces, max_size=10).map(b"".join)
    return st.builds(Answer, st.sampled_from([200, 200, 200, 202, 204, 400, 403, 404, 409]), types, bodies)
