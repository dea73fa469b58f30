import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.integration.test_secrets_and_roles import EXIF, with_exif
from worker.console.image_detail import ImageSource
from worker.console.photographs import DEFAULT_RECIPE, THUMBNAIL_PX, FoundPhotograph, PhotographRenderer, PictureCache
from worker.core.errors import ImageChangedError, ImageChecksumError, ImageError, ImageReferenceError
from worker.core.settings import Settings
from worker.core.storage.storage import Storage

SAMPLES = Path(__file__).parents[4] / "producer" / "demo" / "samples"


def source(path: Path, sha256: str | None = None) -> ImageSource:
    return ImageSource(path.as_uri(), sha256, None)


@pytest.fixture
def photographs(tmp_path: Path, make_settings: Callable[..., Settings]) -> Iterator[PhotographRenderer]:
    settings = make_settings(source_roots=f"{SAMPLES},{tmp_path / 'inbox'}", decode_processes=1)
    (tmp_path / "inbox").mkdir()
    drawn = PhotographRenderer(settings, Storage(settings))
    yield drawn
    drawn.close()


def decoded(data: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


def test_photograph_is_encoded_again_without_its_exif(photographs: PhotographRenderer, tmp_path: Path) -> None:
    marked = tmp_path / "inbox" / "eye.jpg"
    marked.write_bytes(with_exif((SAMPLES / "IDRiD_138.jpg").read_bytes()))
    drawn = photographs.render(source(marked))
    assert EXIF not in drawn
    assert b"Exif" not in drawn
    picture = decoded(drawn)
    # The sample is 771 x 512, its field is cut off above and below.
    side, *others = picture.shape
    assert others == [side, 3]
    assert 500 < side < 700
    # The field fills the canvas from side to side: red in the middle, black in the corner.
    assert picture[side // 2, side // 2, 2] > 60
    assert picture[:20, :20].max() < 20


def test_photograph_keeps_its_resolution(photographs: PhotographRenderer, tmp_path: Path) -> None:
    sample = cv2.imread(str(SAMPLES / "IDRiD_138.jpg"))
    assert sample is not None
    large = tmp_path / "inbox" / "large.jpg"
    cv2.imwrite(str(large), cv2.resize(sample, (4288, 2848), interpolation=cv2.INTER_CUBIC))
    small, full = (
        decoded(photographs.render(source(SAMPLES / "IDRiD_138.jpg"))),
        decoded(photographs.render(source(large))),
    )
    assert full.shape[0] / small.shape[0] == pytest.approx(4288 / 771, rel=0.02)


def test_thumbnail_of_the_graded_bytes_is_cached(photographs: PhotographRenderer, tmp_path: Path) -> None:
    eye = tmp_path / "inbox" / "eye.jpg"
    eye.write_bytes((SAMPLES / "IDRiD_138.jpg").read_bytes())
    graded = ImageSource(eye.as_uri(), None, None, hashlib.sha256(eye.read_bytes()).hexdigest())
    drawn = photographs.render_thumbnail(graded)
    assert decoded(drawn).shape == (THUMBNAIL_PX, THUMBNAIL_PX, 3)
    eye.unlink()
    assert photographs.render_thumbnail(graded) == drawn
    with pytest.raises(ImageError):
        photographs.render_thumbnail(source(eye))


def test_cache_keeps_the_most_recent_pictures_within_its_bytes() -> None:
    cache = PictureCache(10)
    for key in "abc":
        cache.put(key, b"1234")
    assert [cache.get(key) for key in "abc"] == [None, b"1234", b"1234"]
    cache.get("b")
    cache.put("d", b"1234")
    assert [cache.get(key) for key in "bcd"] == [b"1234", None, b"1234"]
    cache.put("e", b"12345678901")
    assert [cache.get(key) for key in "bde"] == [None, None, None]


def test_photograph_without_a_field_is_shown_whole(photographs: PhotographRenderer) -> None:
    picture = decoded(photographs.render(source(SAMPLES / "black-frame.jpg")))
    side = max(cv2.imread(str(SAMPLES / "black-frame.jpg")).shape)
    assert picture.shape == (side, side, 3)


def test_files_outside_the_source_roots_are_refused(photographs: PhotographRenderer, tmp_path: Path) -> None:
    outside = tmp_path / "outside.jpg"
    outside.write_bytes((SAMPLES / "IDRiD_138.jpg").read_bytes())
    (tmp_path / "inbox" / "link.jpg").symlink_to(outside)
    for path in (outside, tmp_path / "inbox" / "link.jpg", tmp_path / "inbox" / ".." / "outside.jpg"):
        with pytest.raises(ImageReferenceError, match="outside the allowed folders"):
            photographs.render(source(path))
    with pytest.raises(ImageReferenceError):
        photographs.render(ImageSource("http://127.0.0.1/eye.jpg", None, None))


def test_file_with_another_checksum_is_refused(photographs: PhotographRenderer) -> None:
    with pytest.raises(ImageChecksumError):
        photographs.render(source(SAMPLES / "IDRiD_138.jpg", "0" * 64))


def test_replaced_photograph_is_refused_also_after_it_was_displayed(
    photographs: PhotographRenderer, tmp_path: Path
) -> None:
    eye = tmp_path / "inbox" / "eye.jpg"
    eye.write_bytes((SAMPLES / "IDRiD_138.jpg").read_bytes())
    sha256 = hashlib.sha256(eye.read_bytes()).hexdigest()
    graded = ImageSource(eye.as_uri(), None, None, sha256)
    assert photographs.find(graded) == FoundPhotograph(sha256)
    photographs.render(graded)
    eye.write_bytes((SAMPLES / "IDRiD_020.jpg").read_bytes())
    with pytest.raises(ImageChangedError):
        photographs.render(graded)
    assert photographs.find(graded) == FoundPhotograph(None, is_changed=True)
    eye.unlink()
    assert photographs.find(graded) == FoundPhotograph(None)


def test_file_that_is_not_an_image_is_refused(photographs: PhotographRenderer) -> None:
    with pytest.raises(ImageError):
        photographs.render(source(SAMPLES / "not-an-image.jpg"))


def test_stack_entry_is_shown_unchanged(photographs: PhotographRenderer, tmp_path: Path) -> None:
    side = DEFAULT_RECIPE.input_size_px
    np.save(tmp_path / "inbox" / "x.npy", np.full((2, side, side, 3), 100, np.uint8))
    picture = decoded(photographs.render(ImageSource(f"{(tmp_path / 'inbox' / 'x.npy').as_uri()}#1", None, None)))
    assert picture.shape == (side, side, 3)
    assert abs(int(picture[side // 2, side // 2, 1]) - 100) <= 2


def test_overlay_is_served_only_if_it_is_an_image(
    photographs: PhotographRenderer, tmp_path: Path, make_settings: Callable[..., Settings]
) -> None:
    store = Storage(make_settings()).overlays
    png = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    store.put("night/m/a.png", png, content_type="image/png", metadata={})
    store.put("night/m/b.png", b"<script>alert(1)</script>", content_type="image/png", metadata={})
    assert photographs.read_overlay("night/m/a.png") == (png, "image/png")
    with pytest.raises(ImageError, match="neither a PNG nor a JPEG"):
        photographs.read_overlay("night/m/b.png")
    with pytest.raises(KeyError):
        photographs.read_overlay("night/m/c.png")
