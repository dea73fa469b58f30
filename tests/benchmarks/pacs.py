"""Throughput of one worker with photographs from a PACS, to which their results return, and with the same ones from S3.

    python -m tests.benchmarks.pacs [--photographs FOLDER] [--images N] [--rounds N] [--kills N]

Full-size JPEGs, in a bucket as files and in Orthanc as DICOM instances with the same JPEG as their frame. Rounds of
both sources alternate, with one worker and the same servers; overlays go to S3 and rows to PostgreSQL. After each round
from the PACS, a report and an overlay of each photograph are stored there. Listing the PACS is measured apart: it
happens once a night, in the producer. With kills, one more run has its worker and its publisher killed in turn. Without
a folder, the shipped samples are upscaled.
"""

import argparse
import os
import time
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from itertools import cycle, islice
from pathlib import Path

from producer.sources.open_source import open_source
from tests.benchmarks.end_to_end import RoundResult, measure_round
from tests.benchmarks.engine_process import versions_of
from tests.benchmarks.pacs_circle import KilledRun, run_with_kills
from tests.benchmarks.photographs import full_size_jpegs
from tests.benchmarks.producer_client import ProducerClient
from tests.benchmarks.results import as_table, describe_machine, format_range, write_section
from tests.benchmarks.testbed import Testbed, open_testbed
from tests.integration.processes import worker
from tests.services.dicom_objects import Exposure, make_photograph
from tests.services.orthanc import PASSWORD, USER, Orthanc
from tests.services.published_objects import StoredObjects, read_objects
from worker.core.manifests.admission import make_admission_policy
from worker.core.settings import parse_settings
from worker.core.storage.storage import Storage
from worker.core.telemetry.log_setup import configure_logs
from worker.core.uris import parse_dicomweb_uri
from worker.publishing.passes import publish_run
from worker.publishing.publisher import PublicationResult

TARGET = 0.85
PACKAGES = ("openvino", "opencv-python-headless", "pydicom", "urllib3", "boto3", "numpy")
WARM_UP = 32
"""Images of each source that are graded before the first round; their results are not published."""
SOURCES = ("S3", "PACS")
STUDY_DATE = Exposure().study_date


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=0)
    options = parser.parse_args()
    configure_logs("human", "error")
    # Before publishing is measured: a worker imports it once.
    import_module("worker.publishing.dicom.publishers")
    with open_testbed() as testbed:
        archive = start_pacs(testbed)
        in_bucket = upload(testbed, archive, options.photographs, options.images)
        started = time.perf_counter()
        in_pacs = list_pacs()
        listing_s = time.perf_counter() - started
        assert len(in_pacs) == options.images, f"{len(in_pacs)} of {options.images} instances found"
        uris = dict(zip(SOURCES, (in_bucket, in_pacs), strict=True))
        rounds: dict[str, list[RoundResult]] = {source: [] for source in SOURCES}
        publishing_s: list[float] = []
        producer, killed = ProducerClient(), None
        with worker({"FUNDUS_LOG_LEVEL": "info"}, testbed.scratch / "worker.log"):
            for source in SOURCES:
                print(f"{source}: warm after {producer.grade(uris[source][:WARM_UP]):.1f} s", flush=True)
            for _ in range(options.rounds):
                for source in SOURCES:
                    runs: list[str] = []
                    grade = partial(grade_first, producer, uris[source], runs)
                    rounds[source].append(measure_round(grade, options.images))
                    print(source, rounds[source][-1], flush=True)
                    if source == "PACS":
                        publishing_s.append(publish(runs[0]))
                        print(f"published in {publishing_s[-1]:.1f} s", flush=True)
        if options.kills:
            killed = run_with_kills(producer, os.environ, testbed.scratch, in_pacs, options.kills)
        photographs = [parse_dicomweb_uri(uri).instance for uri in in_pacs]
        stored = read_objects(archive, photographs)
        archive.stop()
        print(report(rounds, options.images, listing_s, publishing_s, stored, killed))


def grade_first(producer: ProducerClient, uris: list[str], runs: list[str], count: int) -> float:
    """Grade a number of images in a run of their own, whose name is added to `runs`; return its seconds."""
    started = time.perf_counter()
    runs.append(producer.send(uris[:count]))
    producer.wait(runs[-1], count)
    return time.perf_counter() - started


def publish(run: str) -> float:
    """Publish a run; return its seconds. Every object must be published."""
    started = time.perf_counter()
    result = publish_run(parse_settings(), run)
    assert {found for found, _ in result.counts} == {PublicationResult.PUBLISHED}, result.describe()
    return time.perf_counter() - started


def start_pacs(testbed: Testbed) -> Orthanc:
    """Start Orthanc and set the environment variables that name it."""
    folder = testbed.scratch / "orthanc"
    folder.mkdir()
    archive = Orthanc(folder)
    archive.launch()
    archive.wait()
    os.environ |= {
        "FUNDUS_DICOMWEB_URL": archive.url,
        "FUNDUS_DICOMWEB_USER": USER,
        "FUNDUS_DICOMWEB_PASSWORD": PASSWORD,
        "FUNDUS_PATIENT_KEY": "0123456789abcdef0123456789abcdef",
        "FUNDUS_PUBLISH": "sr,overlay",
    }
    return archive


def upload(testbed: Testbed, archive: Orthanc, folder: Path | None, count: int) -> list[str]:
    """Store each photograph in the bucket and in the PACS, two a study; return the URIs of those in the bucket."""
    uris = []
    for number, jpeg in enumerate(read_photographs(folder, count)):
        uris.append(testbed.upload(f"photographs/{number:05}.jpg", jpeg))
        archive.add(make_photograph(jpeg, Exposure(study=f"study-{number // 2}", name=f"photograph-{number}")))
    return uris


def read_photographs(folder: Path | None, count: int) -> Iterator[bytes]:
    """Yield `count` JPEGs; those of a folder repeat."""
    if folder is None:
        return full_size_jpegs(count)
    return islice(cycle([path.read_bytes() for path in sorted(folder.glob("*.jpg"))]), count)


def list_pacs() -> list[str]:
    """Return the URIs of all photographs in the PACS."""
    settings = parse_settings()
    policy = make_admission_policy(settings)
    source = open_source(
        f"dicomweb://pacs?StudyDate={STUDY_DATE}", storage=Storage(settings), admission=policy, on_warning=print
    )
    return [reference.uri for reference in source.references]


def report(
    rounds: dict[str, list[RoundResult]],
    count: int,
    listing_s: float,
    publishing_s: list[float],
    stored: StoredObjects,
    killed: KilledRun | None,
) -> str:
    """Format the table and write it to RESULTS.md."""
    ratios = [pacs.images_per_s / s3.images_per_s for s3, pacs in zip(*(rounds[s] for s in SOURCES), strict=True)]
    circle = [
        count / (count / one.images_per_s + seconds) for one, seconds in zip(rounds["PACS"], publishing_s, strict=True)
    ]
    body = "\n\n".join(
        [
            "## Photographs from a PACS",
            f"{count} full-size photographs as JPEG in S3 and as DICOM in Orthanc 1.10, {len(ratios)} alternating "
            "rounds of one worker; median (minimum to maximum). All servers and the worker share the machine. Listing "
            f"the PACS took {listing_s:.1f} s.",
            f"Command: `python -m tests.benchmarks.pacs`. Machine: {describe_machine()}.\n"
            f"Versions: {versions_of(PACKAGES)}.",
            as_table(
                ("source", "images/s", "CPU time of other processes, %"),
                [
                    (
                        source,
                        format_range([one.images_per_s for one in rounds[source]]),
                        format_range([100 * one.other_cpu_share for one in rounds[source]], 0),
                    )
                    for source in SOURCES
                ],
            ),
            f"PACS over S3: {format_range(ratios)}, target at least {TARGET}.",
            "A report and an overlay of each photograph were then stored in the PACS, by four threads, at "
            f"{format_range([count / seconds for seconds in publishing_s])} images/s; from the first registered image "
            f"to the last stored object, {format_range(circle)} images/s.",
            *([] if killed is None else [describe_kills(killed, count)]),
            describe_objects(stored, count, len(ratios) + (killed is not None)),
        ]
    )
    write_section("photographs from a pacs", body)
    return body


def describe_kills(killed: KilledRun, count: int) -> str:
    """Describe the run whose worker and publisher were killed."""
    return (
        f"With kill -9 of the worker {killed.kills['worker']} times and of the publisher {killed.kills['publisher']} "
        f"times while they held images and objects: {count / killed.seconds:.2f} images/s from the first registered "
        "image to the last stored object."
    )


def describe_objects(stored: StoredObjects, count: int, runs: int) -> str:
    """Describe what the PACS has, as it counts itself."""
    return (
        f"Objects in the PACS after {runs} runs of {count}: {stored.reports} reports and {stored.overlays} overlays; "
        f"photographs of which a run stored two of a kind: {stored.twice}."
    )


if __name__ == "__main__":
    main()
