"""`fundus model ensemble`: combine several networks, or several views by one network, in a bundle."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from worker.commands.explain_option import Explained, parse_explained
from worker.core.errors import UsageError
from worker.model.bundle.bundle import WEIGHTS_FILE, Bundle, describe_validation_error, find_bundle
from worker.model.bundle.ensemble import EnsembleManifest, Member, View, load_model
from worker.model.bundle.fit_record import SPLIT_FILE
from worker.model.bundle.writer import write_ensemble
from worker.model.ordinal import ALL_OUTPUTS, DEFAULT_THRESHOLDS


class ViewSet(StrEnum):
    """The sets of views of a picture that each network may be given."""

    ONCE = "once"
    MIRRORED = "mirrored"
    TURNED = "turned"
    ALL = "all"


_VIEWS = {
    ViewSet.ONCE: (View.AS_IS,),
    ViewSet.MIRRORED: (View.AS_IS, View.MIRRORED),
    ViewSet.TURNED: (View.AS_IS, View.TURNED_90, View.TURNED_180, View.TURNED_270),
    ViewSet.ALL: tuple(View),
}


def ensemble(
    bundles: Annotated[list[str], typer.Argument(metavar="BUNDLE...", help="Names of pretrained bundles, or folders.")],
    out: Annotated[Path, typer.Option(help="New folder for the bundle.")],
    *,
    weight: Annotated[
        list[float] | None, typer.Option(help="Weight in the average, once for each bundle, in order; default: equal.")
    ] = None,
    looks: Annotated[
        ViewSet,
        typer.Option(help="Views of each picture. mirrored: 2; turned: 4 rotations; all: 8. Each is a forward pass."),
    ] = ViewSet.ONCE,
    explain: Explained = None,
    name: Annotated[str | None, typer.Option(help="The new bundle's name; default: the folder's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Average the logits of several networks, and their class maps with the same weights.

    Members may differ in input size and enhancement, but must crop the photograph in the same way. Each view takes as
    long as a single network. Thresholds are those of the members if they are equal, else 0.5; explained outputs are
    those of the members if they are equal, else all.

    Examples:

        fundus model ensemble densenet121-aptos-224 ./mine --out both

        fundus model ensemble densenet121-aptos-224 --looks mirrored --out twice
    """
    members = [_load_network(ref) for ref in bundles]
    weights = weight or [1.0] * len(members)
    if len(weights) != len(members):
        raise UsageError(f"{len(members)} bundles have {len(weights)} weights")
    thresholds = {network.thresholds for network in members}
    explained = {network.explained_outputs for network in members}
    try:
        manifest = EnsembleManifest(
            name=name or out.resolve().name,
            members=tuple(
                # INT8 does not support ensembles; feature spaces and golden inputs belong to the ensemble.
                Member(
                    manifest=network.manifest.model_copy(
                        update={"ranges_sha256": None, "familiarity_sha256": None, "golden_sha256": None}
                    ),
                    weight=share,
                    views=_VIEWS[looks],
                )
                for network, share in zip(members, weights, strict=True)
            ),
            thresholds=thresholds.pop() if len(thresholds) == 1 else DEFAULT_THRESHOLDS,
            explained_outputs=parse_explained(
                explain, otherwise=explained.pop() if len(explained) == 1 else ALL_OUTPUTS
            ),
        )
    except ValidationError as error:
        raise UsageError(f"ensemble: {describe_validation_error(error)}") from error
    folders = [find_bundle(ref) for ref in bundles]
    write_ensemble(out, manifest, [(folder / WEIGHTS_FILE, folder / SPLIT_FILE) for folder in folders])
    # TensorFlow is slow to import.
    from worker.model.golden_inputs import add_golden_inputs

    written = add_golden_inputs(out)
    if as_json:
        typer.echo(json.dumps({"model_id": written.model_id, **written.model_dump(mode="json")}))
        return
    passes = sum(len(member.views) for member in manifest.members)
    Console(highlight=False).print(f"{out}: {manifest.name} ({manifest.model_id}), {passes} passes an image")


def _load_network(ref: str) -> Bundle:
    model = load_model(ref)
    if not isinstance(model, Bundle):
        raise UsageError(f"{ref} is itself an ensemble; give its members")
    return model
