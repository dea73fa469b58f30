"""`fundus model`: list, show, import, fit, calibrate, quantise, combine and audit model bundles."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from worker.commands.card import card
from worker.commands.explain_option import Explained, parse_explained
from worker.commands.fit import fit
from worker.commands.model_audit import audit
from worker.commands.model_calibrate import calibrate
from worker.commands.model_cross_validate import cross_validate
from worker.commands.model_ensemble import ensemble
from worker.commands.model_familiarity import familiarity
from worker.commands.model_localise import localise
from worker.commands.model_quantise import quantise
from worker.commands.model_selftest import selftest
from worker.commands.model_thresholds import thresholds
from worker.core.errors import UsageError
from worker.imaging.recipe import Recipe
from worker.model.bundle.bundle import (
    DEFAULT_BUNDLE,
    describe_validation_error,
    find_bundle,
    list_pretrained,
)
from worker.model.bundle.ensemble import AnyManifest, EnsembleManifest, load_model, read_any_manifest
from worker.model.ordinal import ALL_OUTPUTS

app = typer.Typer(
    help="Import, fit, combine, calibrate and evaluate bundles: weights with the recipe of their preprocessing."
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_bundles(*, as_json: AsJson = False) -> None:
    """List the pretrained bundles of this version.

    Examples:

        fundus model list

        fundus model list --json
    """
    manifests = [read_any_manifest(find_bundle(name)) for name in list_pretrained()]
    if as_json:
        typer.echo(json.dumps([_summarise(manifest) for manifest in manifests]))
        return
    table = Table()
    for column in ("bundle", "model_id", "architecture", "input"):
        table.add_column(column, no_wrap=True)
    for manifest in manifests:
        side = manifest.recipe.input_size_px
        name = f"{manifest.name} (default)" if manifest.name == DEFAULT_BUNDLE else manifest.name
        table.add_row(name, manifest.model_id, manifest.architecture, f"{side} x {side}")
    Console().print(table)


@app.command()
def show(
    bundle: Annotated[str, typer.Argument(help="A pretrained bundle's name, or a folder.")] = DEFAULT_BUNDLE,
    *,
    as_json: AsJson = False,
) -> None:
    """Show a bundle's manifest, after validating its weights.

    Examples:

        fundus model show

        fundus model show ./my-model --json
    """
    _print_manifest(load_model(bundle).manifest, as_json=as_json)


@app.command("import")
def import_bundle(
    file: Annotated[
        Path,
        typer.Argument(help="Weights: .h5, .weights.h5, .keras, a SavedModel's folder, .pth of EfficientNet-Lite."),
    ],
    out: Annotated[Path, typer.Option(help="New folder for the bundle.")],
    *,
    name: Annotated[str | None, typer.Option(help="The bundle's name; default: the folder's.")] = None,
    backbone: Annotated[
        str, typer.Option(help="The backbone: a network of keras.applications, or EfficientNetLite0 to 4.")
    ] = "DenseNet121",
    size: Annotated[int | None, typer.Option(help="Side of the square input in pixels.")] = None,
    input_range: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="The network's input values of black and white.")
    ] = None,
    preprocess: Annotated[
        Literal["none", "graham"] | None,
        typer.Option(
            help="graham: crop to the field, subtract the background, mask outside the circle. none: resize only."
        ),
    ] = None,
    crop: Annotated[
        Literal["lit_box", "field", "none"] | None,
        typer.Option(
            help="lit_box: to the lit rows and columns; field: to the round border. Default: that of --preprocess."
        ),
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(help="Standard deviation of graham's blur in input pixels; default: size / 30.")
    ] = None,
    explain: Explained = None,
    training_data: Annotated[str, typer.Option(help="The images that the weights were trained on.")] = "not stated",
    licence: Annotated[str, typer.Option(help="The licence of the weights.")] = "not stated",
    notes: Annotated[str, typer.Option(help="Other information for users.")] = "",
    half: Annotated[bool, typer.Option("--float16", help="Store kernels as float16, at half the size.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a bundle from saved weights. Only numbers are read; code in the file is never run.

    Keras 2 or 3: the network must be the backbone, global average pooling, dropout, and a dense head of five sigmoids.
    PyTorch: weights of EfficientNet-Lite for ImageNet, with a head of zeros: fit the bundle before you grade with it.
    Preprocessing is part of the model: give the options that its training images were prepared with.

    Examples:

        fundus model import densenet.h5 --out my-model --size 224 --input-range 0,1 --preprocess none

        fundus model import a.weights.h5 --out a --size 224 --input-range=-2,1.984375 --preprocess graham --float16

        fundus model import lite2.pth --out b --backbone EfficientNetLite2 --size 320 --input-range=-2,1.984375
        --preprocess graham --crop field
    """
    recipe = _make_recipe(size=size, input_range=input_range, preprocess=preprocess, crop=crop, sigma=sigma)
    # HDF5 is loaded only by the command that reads it.
    from worker.model.golden_inputs import add_golden_inputs
    from worker.model.weights_import.importer import import_weights

    import_weights(
        file,
        out,
        recipe=recipe,
        architecture=backbone.lower(),
        name=name or out.resolve().name,
        explained_outputs=parse_explained(explain, otherwise=ALL_OUTPUTS),
        training_data=training_data,
        licence=licence,
        notes=notes,
        float16_kernels=half,
    )
    _print_manifest(add_golden_inputs(out), as_json=as_json)


app.command()(fit)
app.command("cross-validate")(cross_validate)
app.command()(card)
app.command()(calibrate)
app.command()(thresholds)
app.command()(localise)
app.command()(familiarity)
app.command()(ensemble)
app.command()(audit)
app.command()(quantise)
app.command()(selftest)


def _make_recipe(
    *, size: int | None, input_range: str | None, preprocess: str | None, crop: str | None, sigma: float | None
) -> Recipe:
    given = {"--size": size, "--input-range": input_range, "--preprocess": preprocess}
    missing = [option for option, value in given.items() if value is None]
    if size is None or input_range is None or preprocess is None:
        raise UsageError(f"the preprocessing of the weights is missing: give {', '.join(missing)}")
    if sigma is not None and preprocess != "graham":
        raise UsageError(f"--sigma {sigma:g} needs --preprocess graham, not {preprocess}")
    graham = preprocess == "graham"
    fields: dict[str, Any] = {
        "input_size_px": size,
        "input_range": input_range.split(","),
        "crop": crop or ("lit_box" if graham else "none"),
        "enhancement": preprocess,
        "cut_to_circle": graham,
    }
    try:
        recipe = Recipe(**fields)
        return recipe if sigma is None else Recipe(**fields, sigma_fraction=sigma / size)
    except ValidationError as error:
        raise UsageError(f"recipe: {describe_validation_error(error)}") from error


def _summarise(manifest: AnyManifest) -> dict[str, Any]:
    return {"model_id": manifest.model_id, **manifest.model_dump(mode="json")}


def _print_manifest(manifest: AnyManifest, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_summarise(manifest)))
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in _summarise(manifest).items():
        if isinstance(manifest, EnsembleManifest) and key == "members":
            for member in manifest.members:
                views = ", ".join(member.views)
                table.add_row(
                    "member", f"{member.manifest.name} ({member.manifest.model_id}) x {member.weight:g}: {views}"
                )
            continue
        inner = value.items() if isinstance(value, dict) else [("", value)]
        for field, content in inner:
            table.add_row(f"{key}.{field}" if field else key, str(content))
    Console().print(table)
