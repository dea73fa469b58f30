"""`fundus model ensemble`: one bundle of several networks, or of one that looks several times."""

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


class Looks(StrEnum):
    """How often each network looks at a picture."""

    ONCE = "once"
    MIRRORED = "mirrored"
    TURNED = "turned"
    ALL = "all"


_VIEWS = {
    Looks.ONCE: (View.AS_IS,),
    Looks.MIRRORED: (View.AS_IS, View.MIRRORED),
    Looks.TURNED: (View.AS_IS, View.TURNED_90, View.TURNED_180, View.TURNED_270),
    Looks.ALL: tuple(View),
}


def ensemble(
    bundles: Annotated[list[str], typer.Argument(metavar="BUNDLE...", help="Shipped names or folders.")],
    out: Annotated[Path, typer.Option(help="New folder for the bundle.")],
    *,
    weight: Annotated[
        list[float] | None, typer.Option(help="Share of the average, once for each bundle in turn; equal unless given.")
    ] = None,
    looks: Annotated[
        Looks,
        typer.Option(help="once; mirrored: twice; turned: at four quarter turns; all: eight times. Each costs a pass."),
    ] = Looks.ONCE,
    explain: Explained = None,
    name: Annotated[str | None, typer.Option(help="The new bundle's name; the folder's unless given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Average the logits of several networks, and their maps with the same weights: the grade is still explained.

    Members may differ in size and enhancement, and have to crop the photograph alike. Every look costs as much as a
    network by itself. Thresholds are the members' where they all have the same, and 0.5 otherwise; likewise what is
    explained, and all outputs otherwise.

    Examples:

        fundus model ensemble densenet121-aptos-320 ./mine --out both

        fundus model ensemble densenet121-aptos-320 --looks mirrored --out twice
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
                # An ensemble has no ranges for 8 bits.
                Member(
                    manifest=network.manifest.model_copy(update={"ranges_sha256": None}),
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
    if as_json:
        typer.echo(json.dumps({"model_id": manifest.model_id, **manifest.model_dump(mode="json")}))
        return
    passes = sum(len(member.views) for member in manifest.members)
    Console(highlight=False).print(f"{out}: {manifest.name} ({manifest.model_id}), {passes} passes an image")


def _load_network(ref: str) -> Bundle:
    model = load_model(ref)
    if not isinstance(model, Bundle):
        raise UsageError(f"{ref} is an ensemble itself; name its members")
    return model
