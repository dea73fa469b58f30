"""Describe what a worker grades with, for the ledger."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from worker import __version__
from worker.ledger.configurations import InferenceConfiguration

if TYPE_CHECKING:
    from worker.model.engines.protocol import Engine
    from worker.model.engines.self_test import SelfTest


LIBRARIES = ("numpy", "opencv-python-headless", "opencv-python")
"""Packages that prepare images, some of them alternatives."""


def describe_configuration(engine: Engine, self_test: SelfTest | None) -> InferenceConfiguration:
    """Return the configuration of an engine, which had these figures in its self-test, and of the steps before it."""
    model, description = engine.bundle, engine.description
    libraries = {"python": platform.python_version()} | _installed_versions()
    return InferenceConfiguration(
        model_id=model.model_id,
        program_version=__version__,
        engine=description.engine,
        precision=description.precision,
        device=description.device,
        libraries=libraries | dict(description.libraries),
        recipes=[recipe.model_dump(mode="json") for recipe in (model.recipe, *model.extra_recipes)],
        self_test=None if self_test is None else self_test.figures,
    )


def _installed_versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
