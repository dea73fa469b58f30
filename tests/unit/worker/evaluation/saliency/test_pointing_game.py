"""Pointing game on images with known lesions and maps."""

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


def annotated(*lesions: tuple[int, int], window: tuple[int, int, int, int] = WHOLE) -> AnnotatedPhotograph:
    """Return a photograph of 512 x 512 with lesions of one pixel at (x, y)."""
    mask = np.zeros((512, 512), np.uint8)
    for x, y in lesions:
        mask[y, x] = 1
    return AnnotatedPhotograph("eye", Photograph(np.zeros((512, 512, 3), np.uint8)), FIELD, window, mask)


def pointing_at(row: int, column: int) -> NDArray[np.float32]:
    saliency = np.full((8, 8), 0.2, np.float32)
    saliency[row, column] = 1
    return saliency


def score_one(of: AnnotatedPhotograph, saliency: NDArray[np.float32]) -> PointingScore:
    return score_map(of, find_lesion_areas(of), saliency, Grade.MODERATE)


def test_maximum_is_at_the_centre_of_a_cell() -> None:
    # Cells of 64 pixels: the fourth column reaches from 192 to 255.
    inside = np.ones((512, 512), bool)
    rows, columns = np.nonzero(find_brightest(annotated().project_map(pointing_at(1, 3)), inside))
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [(95, 223), (95, 224), (96, 223), (96, 224)]
    assert not find_brightest(annotated().project_map(np.zeros((8, 8), np.float32)), inside).any()


def test_equal_neighbouring_cells_have_their_maximum_between_them() -> None:
    saliency = pointing_at(1, 3)
    saliency[1, 4] = 1
    # Their centres are at 223.5 and 287.5.
    rows, columns = np.nonzero(find_brightest(annotated().project_map(saliency), np.ones((512, 512), bool)))
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [(95, 255), (95, 256), (96, 255), (96, 256)]


def test_hit_of_a_uniform_map_is_chance() -> None:
    found = score_one(annotated((256, 256)), np.ones((1, 1), np.float32))
    assert found.hit == pytest.approx(found.chance)


def test_maximum_of_a_cell_at_the_edge_is_within_the_field() -> None:
    # The centre of row 3 is at 223.5, where the field begins at column 2.
    brightest = find_brightest(annotated().project_map(pointing_at(3, 0)), annotated().field_mask)
    rows, columns = np.nonzero(brightest)
    assert set(rows.tolist()) == {223, 224}
    assert 2 <= columns.min() <= columns.max() < 32


@pytest.mark.parametrize(("away", "hit"), [(0, 1.0), (14, 0.75), (17, 0.0)])
def test_lesion_within_15_pixels_of_512_is_hit(away: int, hit: float) -> None:
    # The maximum is at columns 223 and 224 of rows 95 and 96.
    assert score_one(annotated((224 + away, 96)), pointing_at(1, 3)).hit == hit


def test_baselines_are_the_centre_and_chance() -> None:
    central = score_one(annotated((256, 256)), pointing_at(0, 0))
    assert (central.hit, central.centre) == (0.0, 1.0)
    # A disc of radius 15 in a field of radius 256.
    assert central.chance == pytest.approx((15 / 256) ** 2, rel=0.02)
    outer = score_one(annotated((10, 256)), pointing_at(0, 0))
    assert outer.centre == 0.0


def test_empty_map_is_a_miss() -> None:
    found = score_one(annotated((256, 256)), np.zeros((8, 8), np.float32))
    assert (found.hit, found.energy, found.outside) == (0.0, 0.0, 0.0)


def test_energy_of_a_uniform_map_is_chance() -> None:
    found = score_one(annotated((256, 256)), np.ones((8, 8), np.float32))
    assert found.energy == pytest.approx(found.chance)
    assert (found.outside, found.outside_area) == pytest.approx((1 - np.pi / 4, 1 - np.pi / 4), abs=0.002)
    # A Gaussian with a standard deviation of half the radius, cut at the radius: 1 - exp(-r²/2s²) within r.
    within = (1 - np.exp(-2 * (15 / 256) ** 2)) / (1 - np.exp(-2))
    assert found.centre_energy == pytest.approx(within, rel=0.03)


def test_energy_is_the_share_of_the_map_on_lesions() -> None:
    # One cell of 64 pixels alone, from 256 to 319 in both directions, and 15 pixels around its middle.
    saliency = np.zeros((8, 8), np.float32)
    saliency[4, 4] = 1
    found = score_one(annotated((287, 287)), saliency)
    shown = np.maximum(cv2.resize(saliency, (512, 512), interpolation=cv2.INTER_CUBIC), 0)
    y, x = np.mgrid[:512, :512]
    assert found.energy == pytest.approx(shown[np.hypot(y - 287, x - 287) <= 15].sum() / shown.sum(), rel=1e-3)


def test_map_is_cut_where_the_window_exceeds_the_photograph() -> None:
    # Cells of 128 pixels: that of row 2 and column 2 begins at -256 + 2 * 128 = 0; its centre is at 63.5.
    projected = annotated(window=(-256, 768, -256, 768)).project_map(pointing_at(2, 2))
    rows, columns = np.nonzero(projected == projected.max())
    assert (sorted(set(rows.tolist())), sorted(set(columns.tolist()))) == ([63, 64], [63, 64])


def test_scores_are_means_with_intervals_in_total_and_by_grade() -> None:
    scores = [
        PointingScore(str(number), Grade(2 + number % 2), float(number < 3), 0.0, 0.25, 0.5, 0.3, 0.1, 0.2)
        for number in range(4)
    ]
    game = summarise_game(scores, model="m", model_id="i", resamples=500, seed=0)
    assert (game.whole.map.value, game.whole.chance.value, game.whole.chance.low) == (0.75, 0.25, 0.25)
    assert game.whole.map.low is not None
    assert 0 <= game.whole.map.low < 0.75 < (game.whole.map.high or 0)
    assert (game.whole.over_centre.value, game.whole.energy.value) == (0.75, 0.5)
    assert {grade: score.map.value for grade, score in game.by_grade.items()} == {2: 1.0, 3: 0.5}
    assert game.misses == ["3"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bright disc whose mask has the optic disc and one lesion."""
    rgb = np.zeros((96, 96, 3), np.uint8)
    cv2.circle(rgb, (48, 48), 46, (60, 90, 170), -1)
    cv2.imwrite(str(tmp_path / "a.png"), rgb)
    mask = np.zeros((96, 96), np.uint8)
    mask[20:30, 20:30] = 16
    mask[60, 60] = 2
    cv2.imwrite(str(tmp_path / "a_lesions.png"), mask)
    return tmp_path


def test_folder_is_scored_with_a_real_network(folder: Path) -> None:
    mask = cv2.imread(str(folder / "a_lesions.png"), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(folder / "b_lesions.png"), mask & 16)
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes())
    warnings: list[str] = []
    scores = play_pointing_game(engine(), folder, on_warning=warnings.append, on_progress=lambda: None)
    assert [one.name for one in scores] == ["a"]
    assert 0 <= scores[0].hit <= 1
    # One pixel and those within 15/512 of 93 pixels: 21 pixels of a field of 6,648.
    assert scores[0].chance == pytest.approx(21 / 6648, rel=0.2)
    assert warnings == ["b_lesions.png is skipped: it has no lesion pixel"]


def test_invalid_folders_are_rejected(folder: Path) -> None:
    network = engine()

    def error_detail() -> str:
        with pytest.raises(UsageError) as caught:
            play_pointing_game(network, folder, on_warning=print, on_progress=lambda: None)
        return caught.value.detail

    cv2.imwrite(str(folder / "a_lesions.png"), np.zeros((40, 40), np.uint8))
    assert "a_lesions.png is (40, 40), its photograph (96, 96, 3)" in error_detail()
    (folder / "a_lesions.png").write_bytes(b"no picture")
    assert "cannot read" in error_detail()
    (folder / "a.png").unlink()
    assert "has 0 photographs named a next to it" in error_detail()
    (folder / "a_lesions.png").unlink()
    assert "no _lesions.png in" in error_detail()


def engine() -> OpenVinoEngine:
    weights: dict[str, NDArray[np.float32]] = random_weights()
    # Kernels of one sign, so that the map is not empty.
    return OpenVinoEngine(make_bundle(weights | {"head/kernel": np.abs(weights["head/kernel"])}), "f32")
