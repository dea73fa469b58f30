import pytest

from worker.core.manifests.image_reference import ImageReference, is_image_name


def test_given_image_id_is_the_identity() -> None:
    assert ImageReference("file:///a.jpg", image_id="eye-1").identity == "eye-1"


def test_identity_is_derived_from_the_uri() -> None:
    # printf s3://clinic/eye.jpg | sha256sum
    assert ImageReference("s3://clinic/eye.jpg").identity == "fa6ed21f29c3dac813e5fb0612be0b40"


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.b.PnG", "a.tif", "a.tiff", "a.bmp", "a.webp"])
def test_image_suffix_is_recognised_in_any_case(name: str) -> None:
    assert is_image_name(name)


@pytest.mark.parametrize("name", ["a.txt", "jpg", "a.jpg.part", "._a.jpg", ".jpg", "a.npy", ""])
def test_other_names_are_not_images(name: str) -> None:
    assert not is_image_name(name)
