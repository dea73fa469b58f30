"""`fundus model card` describes a bundle and evaluates it on held-out photographs."""

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.unit.worker.model.networks import make_small_bundle
from tests.unit.worker.training.eyes import write_eyes
from worker.commands.model import app
from worker.core.errors import UsageError
from worker.model.bundle.writer import write_bundle
from worker.training.dataset import read_dataset

QUICK = ("--size=32", "--epochs=1", "--batch-size=4", "--validation-share=0.4", "--precision=float32")


def run(*arguments: str) -> str:
    outcome = CliRunner().invoke(app, list(arguments), env={"FUNDUS_ENGINE": "tensorflow"}, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `eyes.csv`, 24 photographs, and `others.csv`, 12 other photographs of two sources."""
    folder = tmp_path_factory.mktemp("card")
    write_eyes(folder, 36)
    header, *rows = (folder / "eyes.csv").read_text().splitlines()
    (folder / "eyes.csv").write_text("\n".join([header, *rows[:24], ""]))
    others = [f"{row},{('north', 'south')[number % 4 // 2]}" for number, row in enumerate(rows[24:])]
    (folder / "others.csv").write_text("\n".join([f"{header},source", *others, ""]))
    return folder


@pytest.fixture(scope="module")
def fitted(folder: Path) -> Path:
    """A bundle fitted to `eyes.csv`."""
    run("fit", "--manifest", str(folder / "eyes.csv"), "--out", str(folder / "fit"), *QUICK)
    return folder / "fit" / "bundle"


@pytest.mark.slow
def test_card_excludes_the_training_set(folder: Path, fitted: Path, tmp_path: Path) -> None:
    split = (fitted / "split.csv").read_text()
    trained, held_out = split.count(",training"), split.count(",validation")
    assert trained + held_out == 24
    out = tmp_path / "card"
    manifests = ("--validation", str(folder / "eyes.csv"), "--external", str(folder / "others.csv"))
    assert run("card", str(fitted), *manifests, "--out", str(out)) == f"{out / 'MODEL_CARD.md'}\n"
    text = (out / "MODEL_CARD.md").read_text()
    assert f"{held_out} photographs: {held_out} graded." in text
    assert f"({trained} other photographs of the manifest are in it and are excluded)" in text
    assert "12 photographs: 12 graded." in text
    assert text.count("No pixel hash of these photographs is in the training part") == 2
    assert "| initial weights | random |" in text
    for name in ("confusion", "roc", "reliability"):
        assert cv2.imread(str(out / "external" / f"{name}.png")) is not None
        assert f'src="external/{name}.png"' in text
        assert cv2.imread(str(out / "external" / f"{name}-dark.png")) is not None
    assert cv2.imread(str(out / "external" / "operating-points.png")) is not None
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## Intended use", "## Out of scope", "## Model", "## Training data", "## Evaluation data", "## Metrics",
        "## Limits", "## Version", "## Contact",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def unrecorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that does not say how its weights were made."""
    bundle = make_small_bundle()
    assert bundle.manifest.fit is None
    out = tmp_path_factory.mktemp("unrecorded") / "bundle"
    write_bundle(out, bundle.manifest, bundle.weights)
    return out


def test_card_of_weights_without_a_record_has_a_warning(folder: Path, unrecorded: Path, tmp_path: Path) -> None:
    run("card", str(unrecorded), "--external", str(folder / "others.csv"), "--out", str(tmp_path / "card"))
    text = (tmp_path / "card" / "MODEL_CARD.md").read_text()
    assert "The training set and the fit of these weights are not recorded" in text
    assert "It is unknown whether the weights were trained on these photographs" in text
    assert "No pixel hash of these photographs is in the training part" not in text
    assert re.search(r"^\| north \| 6 \| .+\n\| south \| 6 \| ", text, re.MULTILINE)
    sensitivity, specificity = (
        float(re.search(rf"^\| referable {name} \| ([\d.]+)", text, re.MULTILINE)[1])  # type: ignore[index]
        for name in ("sensitivity", "specificity")
    )
    missed, cleared = 0.05 * (1 - sensitivity), 0.95 * specificity
    negative_value = "-" if cleared + missed == 0 else f"{cleared / (cleared + missed):.3f}"
    assert re.search(rf"^\| 5% \| .+ \| {negative_value} \|$", text, re.MULTILINE)


@pytest.mark.slow
def test_card_of_an_ensemble_describes_each_member_and_excludes_all_training_sets(
    folder: Path, fitted: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    arguments = ("--manifest", str(folder / "others.csv"), "--out", str(second), *QUICK, "--size=64")
    run("fit", *arguments)
    both = tmp_path / "both"
    run("ensemble", str(fitted), str(second / "bundle"), "--out", str(both), "--weight", "1", "--weight", "3")
    trained = [(bundle / "split.csv").read_text().count(",training") for bundle in (fitted, second / "bundle")]
    out = tmp_path / "card"
    manifests = ("--validation", str(folder / "eyes.csv"), "--external", str(folder / "others.csv"))
    run("card", str(both), *manifests, "--out", str(out))
    text = (out / "MODEL_CARD.md").read_text()
    for count in trained:
        assert f"({count} other photographs of the manifest are in it and are excluded)" in text
    assert "| 0.25 | as_is |" in text
    assert "| 0.75 | as_is |" in text
    assert text.count("| initial weights | random |") == 2
    assert "## Member 2: second" in text


def test_ensemble_with_an_unknown_training_set_has_a_warning(folder: Path, unrecorded: Path, tmp_path: Path) -> None:
    both = tmp_path / "twice"
    run("ensemble", str(unrecorded), "--looks", "mirrored", "--out", str(both))
    run("card", str(both), "--external", str(folder / "others.csv"), "--out", str(tmp_path / "card"))
    text = (tmp_path / "card" / "MODEL_CARD.md").read_text()
    assert "2 forward passes for each image" in text
    assert "It is unknown whether the weights were trained on these photographs" in text


@pytest.mark.slow
def test_manifest_within_the_training_set_is_rejected(folder: Path, fitted: Path, tmp_path: Path) -> None:
    split = (fitted / "split.csv").read_text()
    trained = {line.partition(",")[0] for line in split.splitlines() if line.endswith(",training")}
    index = read_dataset(fitted.parent).index
    names = [name for name, pixels in zip(index.image_ids, index.pixel_hashes, strict=True) if pixels[:16] in trained]
    for name in names:
        shutil.copy(folder / f"{name}.png", tmp_path / f"{name}.png")
    rows = [f"{name}.png,{number % 2}" for number, name in enumerate(names)]
    (tmp_path / "known.csv").write_text("\n".join(["uri,reference_grade", *rows, ""]))
    with pytest.raises(UsageError, match=f"all {len(names)} photographs are in the training set of the bundle"):
        run("card", str(fitted), "--external", str(tmp_path / "known.csv"), "--out", str(tmp_path))


def test_card_without_data_is_rejected() -> None:
    with pytest.raises(UsageError, match="give --validation, --external or --lesions"):
        run("card")


def test_card_has_the_pointing_game(unrecorded: Path, tmp_path: Path) -> None:
    picture = np.zeros((256, 256, 3), np.uint8)
    cv2.circle(picture, (128, 128), 126, (60, 90, 170), -1)
    cv2.imwrite(str(tmp_path / "eye.jpg"), picture)
    cv2.imwrite(str(tmp_path / "eye_lesions.png"), np.full((256, 256), 2, np.uint8))
    run("card", str(unrecorded), "--lesions", str(tmp_path), "--out", str(tmp_path / "card"))
    text = (tmp_path / "card" / "MODEL_CARD.md").read_text()
    assert "or within 0.029 of the field's side of one" in text
    # Every pixel is a lesion, so centre and random position score 1; an empty map is a miss.
    assert re.search(r"\| all \| 1 \| [01]\.000 .*\| 1\.000 .*\| 1\.000 .*\|", text), text
