"""`fundus model fit` from manifest to bundle, and the errors it reports."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.unit.worker.training.eyes import write_eyes
from worker.commands.model import app
from worker.core.errors import ModelError, SourceError, UsageError
from worker.model.bundle.bundle import load_bundle
from worker.model.bundle.ensemble import load_golden_inputs
from worker.model.bundle.weights import parse_weights
from worker.model.engines.factory import make_engine
from worker.model.engines.self_test import start_engine
from worker.training.dataset import read_dataset
from worker.training.split import HASH_DIGITS, read_training_hashes

QUICK = ("--size=32", "--epochs=2", "--batch-size=4", "--validation-share=0.4", "--precision=float32")
SMALL = "--backbone=MobileNet"
"""A step of it is traced in an eighth of the time of DenseNet-121."""


def run(*arguments: str) -> Any:
    """Run a fit and return the manifest of its bundle; errors are raised as in the program."""
    outcome = CliRunner().invoke(app, ["fit", *arguments, "--json"], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return json.loads(outcome.stdout)


def sides(split: Path) -> dict[str, str]:
    return dict(line.split(",") for line in split.read_text().splitlines()[1:])


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 24 photographs; the first is listed a second time with another name, patient and grade."""
    folder = tmp_path_factory.mktemp("eyes")
    manifest = write_eyes(folder, 24)
    shutil.copy(folder / "p0000.png", folder / "again.png")
    (folder / "black.png").write_bytes(cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes())
    with manifest.open("a") as file:
        file.write("again.png,again,patient-99,1\nblack.png,black,patient-98,0\np0001.png,ungraded,patient-0,\n")
    return manifest


@pytest.fixture(scope="module")
def fitted(eyes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("fits") / "first"
    return out, run(
        "--manifest", str(eyes), "--out", str(out), *QUICK, SMALL, "--name=tiny", "--training-data=24 samples"
    )


def test_bundle_records_how_it_was_made(fitted: tuple[Path, Any]) -> None:
    out, made = fitted
    bundle = load_bundle(out / "bundle")
    assert bundle.model_id == made["model_id"]
    assert (bundle.name, bundle.manifest.training_data) == ("tiny", "24 samples")
    assert bundle.recipe.input_size_px == 32
    assert bundle.explained_outputs == (1, 2)
    record = bundle.manifest.fit
    assert record is not None
    assert (record.ancestry, record.validation_seen, record.initial_model_id) == ("known", "no", None)
    assert sum(record.training) + sum(record.validation) == 25
    assert (record.left_out, record.epochs) == (1, 2)
    assert record.best_epoch in (1, 2)
    assert record.figures["quadratic_weighted_kappa"] is not None


def test_fit_writes_curves_history_exclusions_and_conflicts(fitted: tuple[Path, Any]) -> None:
    out, _ = fitted
    assert cv2.imread(str(out / "curves.png")) is not None
    history = (out / "history.csv").read_text().splitlines()
    assert history[0].startswith("epoch,loss,")
    assert len(history) == 3
    left_out = (out / "left_out.csv").read_text().splitlines()
    assert left_out[1].startswith("black,True,no_field,")
    contradicted = [line.partition(",")[2] for line in (out / "contradicted.csv").read_text().splitlines()]
    assert contradicted == ["image_id,reference_grade", "p0000,0", "again,1"]


def test_no_patient_and_no_pixels_are_in_both_parts(fitted: tuple[Path, Any]) -> None:
    out, _ = fitted
    index = read_dataset(out).index
    side_of = sides(out / "bundle" / "split.csv")
    assert set(side_of.values()) == {"training", "validation"}
    assert index.pixel_hashes[index.image_ids.index("again")] == index.pixel_hashes[0]
    assert len(set(index.pixel_hashes)) == len(side_of) == 24
    of_patient: dict[str, set[str]] = {}
    for patient, pixels in zip(index.patients, index.pixel_hashes, strict=True):
        of_patient.setdefault(str(patient), set()).add(side_of[pixels[:HASH_DIGITS]])
    assert all(len(found) == 1 for found in of_patient.values())
    # Joined through the pixels of `again`.
    assert of_patient["patient-0"] == of_patient["patient-99"]


def test_teacher_is_recorded_and_grades_what_has_no_grade(eyes: Path, fitted: tuple[Path, Any], tmp_path: Path) -> None:
    out, teacher = fitted
    shown = run(
        "--manifest",
        str(eyes),
        "--out",
        str(tmp_path / "taught"),
        *QUICK,
        SMALL,
        "--epochs=1",
        f"--teacher={out / 'bundle'}",
        "--teacher-share=0.25",
    )
    record = shown["fit"]
    assert (record["teacher_model_id"], record["teacher_share"]) == (teacher["model_id"], 0.25)
    assert (record["training"], record["validation"]) == (teacher["fit"]["training"], teacher["fit"]["validation"])
    assert record["validation_seen"] == "no"
    index = read_dataset(tmp_path / "taught").index
    (pixels,) = (hashed for hashed, grade in zip(index.pixel_hashes, index.grades, strict=True) if grade is None)
    is_trained_on = sides(tmp_path / "taught" / "bundle" / "split.csv")[pixels[:HASH_DIGITS]] == "training"
    assert record["ungraded"] == (1 if is_trained_on else None)


@pytest.mark.slow
def test_next_fit_starts_from_the_weights_and_knows_their_training_set(
    eyes: Path, fitted: tuple[Path, Any], tmp_path: Path
) -> None:
    out, made = fitted
    shown = run("--manifest", str(eyes), "--out", str(tmp_path / "b"), *QUICK, "--epochs=1", f"--init={out / 'bundle'}")
    assert shown["fit"]["initial_model_id"] == made["model_id"]
    assert shown["fit"]["initial_share"] is None
    assert shown["fit"]["validation_seen"] == "no"
    other = run(
        "--manifest",
        str(eyes),
        "--out",
        str(tmp_path / "c"),
        *QUICK,
        "--epochs=1",
        f"--init={out / 'bundle'}",
        "--seed=1",
    )
    assert other["fit"]["validation_seen"] == "yes"
    # An image of the first fit's training set and the second's validation set is listed in both parts.
    first, both = (read_training_hashes((fit / "bundle" / "split.csv").read_bytes()) for fit in (out, tmp_path / "c"))
    assert first
    assert first <= both


@pytest.mark.slow
def test_initial_share_interpolates_with_the_initial_weights(
    eyes: Path, fitted: tuple[Path, Any], tmp_path: Path
) -> None:
    first, out = fitted[0] / "bundle", tmp_path / "b"
    options = ("--manifest", str(eyes), "--out", str(out), *QUICK, "--epochs=1", f"--init={first}")
    shown = run(*options, "--initial-share=0.25", "--explain=0,4")
    assert (shown["fit"]["initial_share"], shown["explained_outputs"]) == (0.25, [0, 4])
    before, kept = load_bundle(first).weights, load_bundle(out / "bundle").weights
    last = parse_weights((out / "best.safetensors").read_bytes(), source="best", architecture="mobilenet")
    for name in ("conv1/kernel", "conv1_bn/moving_variance", "head/bias"):
        assert not np.array_equal(kept[name], last[name])
        np.testing.assert_allclose(kept[name], 0.25 * before[name] + 0.75 * last[name], rtol=1e-6)


@pytest.mark.slow
def test_lowest_loss_selects_the_epoch_and_the_training_set_the_thresholds(eyes: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    options = ("--manifest", str(eyes), "--out", str(out), *QUICK, "--choose-by=loss", "--thresholds=kappa")
    shown = run(*options, "--learning-rate=0.01")
    rows = [line.split(",") for line in (out / "history.csv").read_text().splitlines()]
    losses = [float(row[rows[0].index("validation_loss")]) for row in rows[1:]]
    assert shown["fit"]["best_epoch"] == 1 + losses.index(min(losses))
    assert (shown["fit"]["chosen_by"], shown["fit"]["thresholds"]) == ("loss", "kappa")
    assert shown["thresholds"][0] == 0.5
    assert shown["thresholds"] != [0.5] * 5
    assert load_bundle(out / "bundle").thresholds == tuple(shown["thresholds"])


def test_initial_share_without_init_is_rejected(eyes: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--initial-share 0\.5 needs --init"):
        run("--manifest", str(eyes), "--out", str(tmp_path / "out"), *QUICK, "--initial-share=0.5")


@pytest.mark.slow
def test_unknown_training_set_is_recorded(eyes: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    shown = run("--manifest", str(eyes), "--out", str(out), *QUICK, "--epochs=1", "--init=densenet121-aptos-224")
    assert (shown["fit"]["ancestry"], shown["fit"]["validation_seen"]) == ("unknown", "unknown")


@pytest.mark.slow
def test_backbone_and_crop_are_kept_by_the_next_fit(eyes: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    quick = ("--manifest", str(eyes), *QUICK, "--size=64", "--epochs=1")
    # A new process, because threads can only be limited before the first operation.
    options = ("--out", str(first), "--backbone=EfficientNetB0", "--crop=field", "--threads=1", "--json")
    command = [sys.executable, "-m", "producer", "model", "fit", *quick, *options]
    made = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert (made["architecture"], made["target_layer"]) == ("efficientnetb0", "last")
    assert (made["recipe"]["crop"], made["recipe"]["input_range"]) == ("field", [0.0, 255.0])
    init = f"--init={first / 'bundle'}"
    again = run(*quick, "--out", str(second), init)
    assert (again["architecture"], again["recipe"], again["fit"]["validation_seen"]) == (
        "efficientnetb0",
        made["recipe"],
        "no",
    )
    engine = make_engine("auto", load_bundle(second / "bundle"))
    (prediction,) = engine.predict([np.zeros((64, 64, 3), np.uint8)])
    assert prediction.saliency.shape == (2, 2)
    with pytest.raises(
        UsageError, match="has the backbone efficientnetb0; its weights do not fit --backbone MobileNetV2"
    ):
        run(*quick, "--out", str(tmp_path / "third"), init, "--backbone=MobileNetV2")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fit_on_jax_needs_no_tensorflow_and_makes_the_same_kind_of_bundle(eyes: Path, tmp_path: Path) -> None:
    pytest.importorskip("jax", reason="the extra `jax` is not installed")
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    made = {}
    for backend, path in (("tensorflow", ""), ("jax", str(tmp_path / "absent"))):
        options = ("--manifest", str(eyes), "--out", str(tmp_path / backend), *QUICK, "--backbone=MobileNet", "--json")
        command = [sys.executable, "-m", "producer", "model", "fit", *options, f"--backend={backend}"]
        env = {**os.environ, "PYTHONPATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, done.stderr
        made[backend] = json.loads(done.stdout)
    assert made["jax"].keys() == made["tensorflow"].keys()
    assert made["jax"]["fit"].keys() == made["tensorflow"]["fit"].keys()
    assert "jax" in made["jax"]["fit"]["versions"]
    assert not [name for name in made["jax"]["fit"]["versions"] if name.startswith("tensorflow")]
    assert "jax" not in made["tensorflow"]["fit"]["versions"]
    splits = {(tmp_path / backend / "bundle" / "split.csv").read_text() for backend in made}
    assert len(splits) == 1
    # The answers to the golden inputs are those of JAX.
    folder = tmp_path / "jax" / "bundle"
    started = start_engine("tensorflow", "float32", load_bundle(folder), load_golden_inputs(folder), batch_size=4)
    assert started.self_test is not None


def test_unknown_backbone_is_rejected(eyes: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="unknown backbone 'densenet122'"):
        run("--manifest", str(eyes), "--out", str(tmp_path / "out"), *QUICK, "--backbone=DenseNet122")
    assert not (tmp_path / "out").exists()


def test_changed_split_of_the_initial_weights_is_rejected(eyes: Path, fitted: tuple[Path, Any], tmp_path: Path) -> None:
    changed = shutil.copytree(fitted[0] / "bundle", tmp_path / "changed")
    (changed / "split.csv").write_text("pixel_sha256,part\n")
    with pytest.raises(ModelError, match=r"split\.csv: SHA-256 is"):
        run("--manifest", str(eyes), "--out", str(tmp_path / "b"), *QUICK, f"--init={changed}")


def test_finished_fit_is_not_overwritten(eyes: Path, fitted: tuple[Path, Any]) -> None:
    with pytest.raises(UsageError, match="holds a finished fit; choose a new folder"):
        run("--manifest", str(eyes), "--out", str(fitted[0]), *QUICK, SMALL, "--resume")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("uri,grade\np0000.png,0\n", "no reference grade|photographs with reference grades"),
        ("image,reference_grade\np0000.png,0\n", "line 1: missing column uri"),
        ("uri,reference_grade\np0000.png,5\n", "line 2, column reference_grade"),
        ("uri,reference_grade,full_name\np0000.png,0,x\n", "looks like personal data"),
        ("uri,reference_grade\np0000.png,0\np0000.png,1\n", "is listed twice"),
        ("uri,reference_grade\np0000.png,0\nnowhere.png,1\n", r"cannot read .*nowhere\.png: No such file"),
        ("uri,reference_grade\ns3://eyes/p0000.png,0\n", "s3://eyes/p0000.png"),
        ("uri,reference_grade\n../p0000.png,0\n", "is outside the allowed folders"),
        ("uri,reference_grade\np0000.png,0\np0001.png,0\n", "at least two different grades are needed"),
        ("", "is empty"),
    ],
)
def test_bad_manifest_is_rejected_in_one_line(eyes: Path, tmp_path: Path, text: str, sentence: str) -> None:
    folder = tmp_path / "eyes"
    folder.mkdir()
    for name in ("p0000.png", "p0001.png"):
        shutil.copy(eyes.parent / name, folder / name)
    manifest = folder / "bad.csv"
    manifest.write_text(text)
    with pytest.raises(SourceError, match=sentence) as caught:
        run("--manifest", str(manifest), "--out", str(tmp_path / "out"), *QUICK)
    assert "\n" not in caught.value.detail


def test_too_few_photographs_for_a_split_are_rejected_with_the_numbers(tmp_path: Path) -> None:
    manifest = write_eyes(tmp_path / "eyes", 4, grades=(0, 0, 1, 1))
    with pytest.raises(SourceError, match=r"the \w+ part has \d photographs of \d grades; two grades are needed"):
        run("--manifest", str(manifest), "--out", str(tmp_path / "out"), *QUICK)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_fit_resumes_to_the_same_weights(eyes: Path, tmp_path: Path) -> None:
    """A fit killed within an epoch ends with the same bits as an uninterrupted one."""

    def command(out: Path, *more: str) -> list[str]:
        arguments = [
            "--manifest",
            str(eyes),
            "--out",
            str(out),
            *QUICK,
            "--epochs=3",
            "--checkpoint-every=0",
            "--threads=1",
        ]
        return [sys.executable, "-m", "producer", "model", "fit", *arguments, *more]

    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    subprocess.run(command(unbroken), check=True)
    kills = 0
    for at_least in (2, 6):
        with subprocess.Popen(command(broken, "--resume")) as process:
            while _steps(broken) < at_least and process.poll() is None:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
        kills += process.returncode == -signal.SIGKILL
        assert at_least <= _steps(broken) < 12
    assert kills == 2
    assert not (broken / "bundle").exists()
    rejected = subprocess.run(command(broken), capture_output=True, text=True, check=False)
    assert rejected.returncode == 2
    assert "continue it with --resume" in rejected.stderr
    subprocess.run(command(broken, "--resume"), check=True)
    first, second = (load_bundle(out / "bundle") for out in (unbroken, broken))
    assert first.manifest.weights_sha256 == second.manifest.weights_sha256
    assert (unbroken / "history.csv").read_text() == (broken / "history.csv").read_text()
    other = subprocess.run(command(broken, "--resume", "--seed=1"), capture_output=True, text=True, check=False)
    assert other.returncode == 2


def _steps(out: Path) -> int:
    """Return the number of batches in the checkpoint; 0 before the first checkpoint."""
    if not (out / "checkpoint.npz").exists():
        return 0
    with np.load(out / "checkpoint.npz") as file:
        return int(json.loads(str(file["about"]))["steps"])


@pytest.mark.slow
def test_fit_with_a_different_plan_is_not_resumed(eyes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    start = [sys.executable, "-m", "producer", "model", "fit", "--manifest", str(eyes), "--out", str(out), *QUICK]
    with subprocess.Popen(start) as process:
        while not (out / "plan.json").exists() and process.poll() is None:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(UsageError, match="holds a fit with a different plan: epochs is 9, it was 2"):
        run("--manifest", str(eyes), "--out", str(out), *QUICK, "--epochs=9", "--resume")
