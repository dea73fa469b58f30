"""Choose the backbone and the preprocessing recipe that a fit starts with."""

from worker.core.errors import UsageError
from worker.imaging.recipe import Recipe
from worker.model.architecture import DENSENET121
from worker.model.bundle.bundle import Bundle
from worker.model.network.build import UINT8_RANGE, build_network, includes_rescaling
from worker.training.plan import DEFAULT_RECIPE


def choose_backbone(initial: Bundle | None, named: str | None) -> str:
    """Return the architecture of the initial weights, else the named one, else DenseNet-121.

    Raises UsageError if initial weights and name disagree.
    """
    if initial is None:
        return DENSENET121 if named is None else named.lower()
    known = initial.manifest.architecture
    if named is not None and named.lower() != known:
        raise UsageError(f"{initial.name} has the backbone {known}; its weights do not fit --backbone {named}")
    return known


def make_recipe(
    initial: Bundle | None,
    architecture: str,
    *,
    size: int | None,
    sigma: float | None,
    circle: float | None,
    crop: str | None,
) -> Recipe:
    """Return the recipe of the initial weights, or the default, with the given values replaced.

    size, sigma: in pixels of the input. Raises ModelError for an architecture unknown to Keras, and pydantic's
    ValidationError for an invalid recipe.
    """
    base = _default_recipe(architecture) if initial is None else initial.recipe
    side = size or base.input_size_px
    given = {"sigma_fraction": None if sigma is None else sigma / side, "circle_share": circle, "crop": crop}
    changed = {name: value for name, value in given.items() if value is not None}
    return Recipe.model_validate({**base.model_dump(), "input_size_px": side, **changed})


def _default_recipe(architecture: str) -> Recipe:
    if architecture == DENSENET121:
        return DEFAULT_RECIPE
    network = build_network(DEFAULT_RECIPE.input_size_px, architecture)
    return (
        DEFAULT_RECIPE.model_copy(update={"input_range": UINT8_RANGE})
        if includes_rescaling(network)
        else DEFAULT_RECIPE
    )
