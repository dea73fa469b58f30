"""CPU time of each stage of one image, with the stages called in sequence in one process.

    python -m tests.benchmarks.stage_cpu_time PID... < URIS

Registers the URIs as a new run without sending messages. PID: the servers, whose CPU time counts, too. Prints JSON: CPU
seconds per image by stage, of the worker and of the servers.
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
from tests.benchmarks.cpu_time import cpu_time_s
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
from worker.model.bundle.ensemble import load_model
from worker.model.decide_grade import decide_grade
from worker.model.engines.factory import make_engine

SERVER_STAGES = ("lease", "fetch", "upload", "settle")
"""Stages that call servers; in the others the servers' CPU time is background work and not counted."""
LONG_S = 3600.0
PREPARE_STAGES = ("acquire", "field", "gradability", "enhance")
"""Stages of `prepare_image`; the rest of its time is that of the canvas."""


class StageTimer:
    """CPU time by stage."""

    def __init__(self, servers: list[int]) -> None:
        self._servers = servers
        self.worker_s: dict[str, float] = defaultdict(float)
        self.servers_s: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the CPU time of the block to a stage."""
        servers = self._servers if name in SERVER_STAGES else []
        servers_s, worker_s = cpu_time_s(servers), time.process_time()
        yield
        self.worker_s[name] += time.process_time() - worker_s
        self.servers_s[name] += cpu_time_s(servers) - servers_s


def measure(uris: list[str], servers: list[int]) -> StageTimer:
    """Process all images once, chunk by chunk and stage by stage, with the settings of the environment."""
    settings = parse_settings()
    cv2.setNumThreads(1)
    database, storage, bundle = connect(settings), Storage(settings), load_model(settings.model)
    register_model(database, bundle.model_id, bundle.name, bundle.manifest.model_dump(mode="json"))
    engine = make_engine(settings.engine, bundle)
    engine.warm_up(settings.max_batch_size)
    recipe, limits = bundle.recipe, ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
    side = max(recipe.input_size_px, settings.overlay_size_px)
    _ = storage.overlays, storage.client
    timer = StageTimer(servers)
    run, position = open_run(database, RunRequest(f"costs-{os.getpid()}", "benchmark"), default_chunk_size=1)
    references = [ImageReference(uri) for uri in uris]
    registered = register_batch(database, run, references, position=position, resend_after_s=LONG_S)
    for ids in chunked(registered, settings.chunk_size):
        chunk = GradeChunk(run_id=run.run_id, image_ids=ids)
        with timer.stage("lease"):
            lease = lease_chunk(
                database, chunk, model_id=bundle.model_id, lease_s=LONG_S, max_attempts=settings.max_attempts
            )
        with timer.stage("fetch"):
            data = [
                fetch_photograph(storage.sources, image.uri, max_bytes=settings.max_image_bytes).data
                for image in lease.images
            ]
        prepared = []
        for read in data:
            # One photograph after the other, so that freed memory is reused as in a decoding process.
            with timer.stage("acquire"):
                photograph = decode_photograph(read, cover_px=side, limits=limits)
            with timer.stage("field"):
                field = find_field(photograph, recipe)
            with timer.stage("gradability"):
                assess_gradability(photograph, field)
            with timer.stage("enhance"):
                enhance_field(photograph, field, recipe)
            with timer.stage("canvas"):
                prepared.append(
                    prepare_image(read, recipe=recipe, overlay_size_px=settings.overlay_size_px, limits=limits)
                )
        with timer.stage("engine"):
            predictions = [
                prediction
                for start in range(0, len(prepared), settings.max_batch_size)
                for prediction in engine.predict(
                    [one.enhanced for one in prepared[start : start + settings.max_batch_size]]
                )
            ]
        encoded = []
        for one, prediction in zip(prepared, predictions, strict=True):
            with timer.stage("overlay"):
                drawn = render_overlay(one, prediction.saliency, settings.overlay_colours, strength=prediction.strength)
            with timer.stage("encode"):
                encoded.append(encode_overlay(drawn, settings.overlay_format, settings.overlay_quality))
        outcomes = []
        with timer.stage("upload"):
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
                    is_held=lambda: True,
                )
                outcomes.append(Outcome(image.image_id, Status.GRADED, prediction, decision, key))
        with timer.stage("settle"):
            written = settle_chunk(database, lease, outcomes, {}, model_id=bundle.model_id, retry_after_s=LONG_S)
        assert written == len(ids)
    timer.worker_s["canvas"] -= sum(timer.worker_s[part] for part in PREPARE_STAGES)
    return timer


def main() -> None:
    """Print the CPU times as JSON."""
    uris = sys.stdin.read().split()
    timer = measure(uris, [int(pid) for pid in sys.argv[1:]])
    print(
        json.dumps(
            {
                "worker_s": {name: seconds / len(uris) for name, seconds in timer.worker_s.items()},
                "servers_s": {name: seconds / len(uris) for name, seconds in timer.servers_s.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
