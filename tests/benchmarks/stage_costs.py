"""What each stage of one image costs in processor time, called one after the other in a process of its own.

    python -m tests.benchmarks.stage_costs PID... < ADDRESSES

Registers the addresses in a run of its own, whose messages go nowhere. The processes named are the servers, whose work
counts, too. Prints JSON: seconds of processor time per image by stage, the worker's and the servers'.
"""

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

from producer.runs.lifecycle import RunRequest, open_run
from producer.runs.register import register_batch
from tests.benchmarks.processor_time import used_s
from worker.core.manifests.image_reference import ImageReference
from worker.core.messages import GradeChunk
from worker.core.messaging.broker import chunked
from worker.core.predictions import Outcome
from worker.core.settings import parse_settings
from worker.core.storage.storage import Storage
from worker.core.vocabulary import Status
from worker.imaging.headers.header import ImageLimits
from worker.imaging.steps.decode import decode_photograph
from worker.imaging.steps.enhance import enhance_field
from worker.imaging.steps.fetch import fetch_photograph
from worker.imaging.steps.find_field import find_field
from worker.imaging.steps.gradability import assess_gradability
from worker.imaging.steps.overlay import encode_overlay, render_overlay
from worker.imaging.steps.prepare import prepare_image
from worker.inference.upload_overlay import upload_overlay
from worker.ledger.database import connect
from worker.ledger.leases import lease_chunk, register_model, settle_chunk
from worker.model.bundle.bundle import load_bundle
from worker.model.decide_grade import decide_grade
from worker.model.engines.factory import make_engine

TALKING = ("lease", "fetch", "upload", "settle")
"""What servers do meanwhile counts; in the other stages it is their housekeeping."""
LONG_S = 3600.0
PARTS = ("acquire", "field", "gradability", "enhance")
"""They are timed within `prepare`'s work; what that takes beyond them is the canvas."""


class Meter:
    """Processor time by stage."""

    def __init__(self, servers: list[int]) -> None:
        self._servers = servers
        self.worker_s: dict[str, float] = defaultdict(float)
        self.servers_s: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add what happens inside to a stage."""
        servers = self._servers if name in TALKING else []
        servers_s, worker_s = used_s(servers), time.process_time()
        yield
        self.worker_s[name] += time.process_time() - worker_s
        self.servers_s[name] += used_s(servers) - servers_s


def measure(uris: list[str], servers: list[int]) -> Meter:
    """One pass over the images, stage by stage, chunk by chunk, with the settings of the environment."""
    settings = parse_settings()
    cv2.setNumThreads(1)
    database, storage, bundle = connect(settings), Storage(settings), load_bundle(settings.model)
    register_model(database, bundle.model_id, bundle.name, bundle.manifest.model_dump(mode="json"))
    engine = make_engine(settings.engine, bundle)
    engine.warm_up(settings.max_batch_size)
    recipe, limits = bundle.recipe, ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
    side = max(recipe.input_size_px, settings.overlay_size_px)
    _ = storage.overlays, storage.client
    meter = Meter(servers)
    run, position = open_run(database, RunRequest(f"costs-{os.getpid()}", "benchmark"), default_chunk_size=1)
    references = [ImageReference(uri) for uri in uris]
    registered = register_batch(database, run, references, position=position, resend_after_s=LONG_S)
    for ids in chunked(registered, settings.chunk_size):
        chunk = GradeChunk(run_id=run.run_id, image_ids=ids)
        with meter.stage("lease"):
            lease = lease_chunk(
                database, chunk, model_id=bundle.model_id, lease_s=LONG_S, max_attempts=settings.max_attempts
            )
        with meter.stage("fetch"):
            data = [
                fetch_photograph(storage.sources, image.uri, max_bytes=settings.max_image_bytes)
                for image in lease.images
            ]
        prepared = []
        for read in data:
            # Each photograph's pictures take the memory of the last one's, as in a decoder.
            with meter.stage("acquire"):
                photograph = decode_photograph(read, cover_px=side, limits=limits)
            with meter.stage("field"):
                field = find_field(photograph, recipe)
            with meter.stage("gradability"):
                assess_gradability(photograph, field)
            with meter.stage("enhance"):
                enhance_field(photograph, field, recipe)
            with meter.stage("canvas"):
                prepared.append(
                    prepare_image(read, recipe=recipe, overlay_size_px=settings.overlay_size_px, limits=limits)
                )
        with meter.stage("engine"):
            predictions = [
                prediction
                for start in range(0, len(prepared), settings.max_batch_size)
                for prediction in engine.predict(
                    [one.enhanced for one in prepared[start : start + settings.max_batch_size]]
                )
            ]
        encoded = []
        for one, prediction in zip(prepared, predictions, strict=True):
            with meter.stage("overlay"):
                drawn = render_overlay(one, prediction.saliency, settings.overlay_colours)
            with meter.stage("encode"):
                encoded.append(encode_overlay(drawn, settings.overlay_format, settings.overlay_quality))
        outcomes = []
        with meter.stage("upload"):
            for image, prediction, overlay in zip(lease.images, predictions, encoded, strict=True):
                decision = decide_grade(prediction, bundle)
                key = upload_overlay(
                    storage.overlays,
                    overlay,
                    run_name=lease.run_name,
                    model_id=bundle.model_id,
                    image_id=image.image_id,
                    decision=decision,
                    fmt=settings.overlay_format,
                )
                outcomes.append(Outcome(image.image_id, Status.GRADED, prediction, decision, key))
        with meter.stage("settle"):
            written = settle_chunk(database, lease, outcomes, {}, model_id=bundle.model_id, retry_after_s=LONG_S)
        assert written == len(ids)
    meter.worker_s["canvas"] -= sum(meter.worker_s[part] for part in PARTS)
    return meter


def main() -> None:
    """Print the costs."""
    uris = sys.stdin.read().split()
    meter = measure(uris, [int(pid) for pid in sys.argv[1:]])
    print(
        json.dumps(
            {
                "worker_s": {name: seconds / len(uris) for name, seconds in meter.worker_s.items()},
                "servers_s": {name: seconds / len(uris) for name, seconds in meter.servers_s.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
