"""The pointing game on pictures whose lesions and maps are known."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.worker.model.networks import make_bundle, random_weights
from worker.core.errors import UsageError
from worker.core.vocabulary import Grade
from worker.evaluation.saliency.lesion_masks import AnnotatedPhotograph
from worker.evaluation.saliency.pointing_game import (
    PointingScore,
    find_brightest,
    find_lesion_areas,
    play_pointing_game,
    score_map,
)
from worker.evaluation.saliency.pointing_view import summarise_game
from worker.imaging.photograph import Ellipse, Field, Photograph
from worker.model.engines.openvino_engine import OpenVinoEngine

FIELD = Field(0, 512, 0, 512, Ellipse(255.5, 255.5, 256.0, 256.0))
WHOLE = (0, 512, 0, 512)


def marked(*lesions: tuple[int, int], window: tuple[int, int, int, int] = WHOLE) -> AnnotatedPhotograph:
    """Lesions of one pixel at (x, y) in a picture of 512 x 512."""
    mask = np.zeros((512, 512), bool)
    for x, y in lesions:
        mask[y, x] = True
    return AnnotatedPhotograph("eye", Photograph(np.zeros((512, 512, 3), np.uint8)), FIELD, window, mask)


def pointing_at(row: int, column: int) -> NDArray[np.float32]:
    saliency = np.full((8, 8), 0.2, np.float32)
    saliency[row, column] = 1
    return saliency


def play_one(of: AnnotatedPhotograph, saliency: NDArray[np.float32]) -> PointingScore:
    return score_map(of, find_lesion_areas(of), saliency, Grade.MODERATE)


def test_brightest_pixels_are_those_around_the_middle_of_a_cell() -> None:
    # Cells of 64 pixels: the fourth column reaches from 192 to 255.
    inside = np.ones((512, 512), bool)
    rows, columns = np.nonzero(find_brightest(marked().project_map(pointing_at(1, 3)), inside))
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [(95, 223), (95, 224), (96, 223), (96, 224)]
    assert not find_brightest(marked().project_map(np.zeros((8, 8), np.float32)), inside).any()


def test_evidence_that_two_cells_share_peaks_between_them() -> None:
    saliency = pointing_at(1, 3)
    saliency[1, 4] = 1
    # Their middles are at 223.5 and 287.5.
    rows, columns = np.nonzero(find_brightest(marked().project_map(saliency), np.ones((512, 512), bool)))
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [(95, 255), (95, 256), (96, 255), (96, 256)]


def test_flat_map_is_hit_by_the_share_that_is_on_lesions() -> None:
    found = play_one(marked((256, 256)), np.ones((1, 1), np.float32))
    assert found.hit == pytest.approx(found.chance)


def test_cell_at_the_edge_peaks_within_the_field() -> None:
    # Row 3 has its middle at 223.5, where the field begins at column 2.
    brightest = find_brightest(marked().project_map(pointing_at(3, 0)), marked().field_mask)
    rows, columns = np.nonzero(brightest)
    assert set(rows.tolist()) == {223, 224}
    assert 2 <= columns.min() <= columns.max() < 32


@pytest.mark.parametrize(("away", "hit"), [(0, 1.0), (14, 0.75), (17, 0.0)])
def test_lesion_within_15_pixels_of_512_is_hit(away: int, hit: float) -> None:
    # The map is brightest at columns 223 and 224 of rows 95 and 96.
    assert play_one(marked((224 + away, 96)), pointing_at(1, 3)).hit == hit


def test_baselines_are_the_centre_and_the_share_of_the_field() -> None:
    central = play_one(marked((256, 256)), pointing_at(0, 0))
    assert (central.hit, central.centre) == (0.0, 1.0)
    # A disc of radius 15 in a field of radius 256.
    assert central.chance == pytest.approx((15 / 256) ** 2, rel=0.02)
    outer = play_one(marked((10, 256)), pointing_at(0, 0))
    assert outer.centre == 0.0


def test_map_without_evidence_misses() -> None:
    found = play_one(marked((256, 256)), np.zeros((8, 8), np.float32))
    assert (found.hit, found.energy, found.outside) == (0.0, 0.0, 0.0)


def test_energy_of_an_even_map_is_the_share_of_the_area() -> None:
    found = play_one(marked((256, 256)), np.ones((8, 8), np.float32))
    assert found.energy == pytest.approx(found.chance)
    assert (found.outside, found.outside_area) == pytest.approx((1 - np.pi / 4, 1 - np.pi / 4), abs=0.002)
    # Of a Gaussian with a deviation of half the radius, cut at the radius: 1 - exp(-r²/2s²) within r, in radii.
    within = (1 - np.exp(-2 * (15 / 256) ** 2)) / (1 - np.exp(-2))
    assert found.centre_energy == pytest.approx(within, rel=0.03)


def test_energy_is_that_of_the_map_on_lesions() -> None:
    # One cell of 64 pixels alone, from 256 to 319 in both directions, and 15 pixels around its middle.
    saliency = np.zeros((8, 8), np.float32)
    saliency[4, 4] = 1
    found = play_one(marked((287, 287)), saliency)
    shown = np.maximum(cv2.resize(saliency, (512, 512), interpolation=cv2.INTER_CUBIC), 0)
    y, x = np.mgrid[:512, :512]
    assert found.energy == pytest.approx(shown[np.hypot(y - 287, x - 287) <= 15].sum() / shown.sum(), rel=1e-3)


def test_map_of_a_window_that_reaches_past_the_picture_is_cut() -> None:
    # Cells of 128 pixels: that of row 2 and column 2 begins at -256 + 2 * 128 = 0, and its middle is at 63.5.
    laid = marked(window=(-256, 768, -256, 768)).project_map(pointing_at(2, 2))
    rows, columns = np.nonzero(laid == laid.max())
    assert (sorted(set(rows.tolist())), sorted(set(columns.tolist()))) == ([63, 64], [63, 64])


def test_scores_are_means_with_intervals_in_all_and_by_grade() -> None:
    pointed = [
        PointingScore(str(number), Grade(2 + number % 2), float(number < 3), 0.0, 0.25, 0.5, 0.3, 0.1, 0.2)
        for number in range(4)
    ]
    game = summarise_game(pointed, model="m", model_id="i", resamples=500, seed=0)
    assert (game.whole.map.value, game.whole.chance.value, game.whole.chance.low) == (0.75, 0.25, 0.25)
    assert game.whole.map.low is not None
    assert 0 <= game.whole.map.low < 0.75 < (game.whole.map.high or 0)
    assert (game.whole.over_centre.value, game.whole.energy.value) == (0.75, 0.5)
    assert {grade: score.map.value for grade, score in game.by_grade.items()} == {2: 1.0, 3: 0.5}
    assert game.misses == ["3"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A lit disc with a mask in which only the optic disc and one lesion are marked."""
    rgb = np.zeros((96, 96, 3), np.uint8)
    cv2.circle(rgb, (48, 48), 46, (60, 90, 170), -1)
    cv2.imwrite(str(tmp_path / "a.png"), rgb)
    mask = np.zeros((96, 96), np.uint8)
    mask[20:30, 20:30] = 16
    mask[60, 60] = 2
    cv2.imwrite(str(tmp_path / "a_lesions.png"), mask)
    return tmp_path


def test_folder_is_played_with_a_real_network(folder: Path) -> None:
    mask = cv2.imread(str(folder / "a_lesions.png"), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(folder / "b_lesions.png"), mask & 16)
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes())
    warnings: list[str] = []
    pointed = play_pointing_game(engine(), folder, on_warning=warnings.append, on_progress=lambda: None)
    assert [one.name for one in pointed] == ["a"]
    assert 0 <= pointed[0].hit <= 1
    # One pixel, and what is within 15/512 of 93 pixels of it: 21 pixels of a field of 6,648.
    assert pointed[0].chance == pytest.approx(21 / 6648, rel=0.2)
    assert warnings == ["b_lesions.png is left out: it marks no lesion"]


def test_folders_that_cannot_be_played_are_named(folder: Path) -> None:
    network = engine()

    def complaint() -> str:
        with pytest.raises(UsageError) as caught:
            play_pointing_game(network, folder, on_warning=print, on_progress=lambda: None)
        return caught.value.detail

    cv2.imwrite(str(folder / "a_lesions.png"), np.zeros((40, 40), np.uint8))
    assert "a_lesions.png is (40, 40), its photograph (96, 96, 3)" in complaint()
    (folder / "a_lesions.png").write_bytes(b"no picture")
    assert "cannot read" in complaint()
    (folder / "a.png").unlink()
    assert "has 0 photographs named a beside it" in complaint()
    (folder / "a_lesions.png").unlink()
    assert "no _lesions.png in" in complaint()


def engine() -> OpenVinoEngine:
    weights: dict[str, NDArray[np.float32]] = random_weights()
    # Of one sign, for a map that is not empty.
    return OpenVinoEngine(make_bundle(weights | {"head/kernel": np.abs(weights["head/kernel"])}), "f32")
