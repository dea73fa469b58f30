"""What a fit begins with: the backbone, and the recipe of its pictures."""

from worker.core.errors import UsageError
from worker.imaging.recipe import Recipe
from worker.model.architecture import DENSENET121
from worker.model.bundle.bundle import Bundle
from worker.model.network.build import UINT8_RANGE, build_network, includes_rescaling
from worker.training.plan import DEFAULT_RECIPE


def choose_backbone(initial: Bundle | None, named: str | None) -> str:
    """The architecture of the first weights, or the one that is named, DenseNet-121 where none is.

    Raises UsageError where both are there and differ.
    """
    if initial is None:
        return DENSENET121 if named is None else named.lower()
    known = initial.manifest.architecture
    if named is not None and named.lower() != known:
        raise UsageError(f"{initial.name} is {known}: its weights are none for --backbone {named}")
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
    """The recipe of the first weights, or the usual one, with what is given in place of its own.

    size, sigma: in pixels of the input. Raises ModelError for an architecture that Keras has not, pydantic's
    ValidationError for a recipe that cannot be.
    """
    base = _usual_recipe(architecture) if initial is None else initial.recipe
    side = size or base.input_size_px
    given = {"sigma_fraction": None if sigma is None else sigma / side, "circle_share": circle, "crop": crop}
    changed = {name: value for name, value in given.items() if value is not None}
    return Recipe.model_validate({**base.model_dump(), "input_size_px": side, **changed})


def _usual_recipe(architecture: str) -> Recipe:
    if architecture == DENSENET121:
        return DEFAULT_RECIPE
    network = build_network(DEFAULT_RECIPE.input_size_px, architecture)
    return (
        DEFAULT_RECIPE.model_copy(update={"input_range": UINT8_RANGE})
        if includes_rescaling(network)
        else DEFAULT_RECIPE
    )
