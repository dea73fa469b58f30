"""`fundus model selftest`: compare an engine's numbers with the bundle's float32 answers, or write these answers."""

import json
from typing import Annotated

import typer

from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.terminal.output import stdout_console
from worker.model.bundle.bundle import find_bundle
from worker.model.bundle.ensemble import load_golden_inputs, load_model


def selftest(
    bundle: Annotated[
        str | None, typer.Argument(help="A pretrained bundle's name, or a folder.", show_default="FUNDUS_MODEL")
    ] = None,
    *,
    write: Annotated[
        bool, typer.Option("--write", help="Compute the answers on this machine and add them to the bundle.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Test the numbers of the engine that a worker would use, as each worker does at its start.

    A bundle has golden inputs, one sample photograph of each grade, with the answers in float32. The
    engine of FUNDUS_ENGINE and FUNDUS_PRECISION answers them in full batches of FUNDUS_MAX_BATCH_SIZE and in another
    shape. With `auto`, the first engine that passes is shown. --write adds golden inputs to a bundle without them, or
    replaces them; the model and its id stay the same.

    Examples:

        fundus model selftest

        fundus model selftest ./my-model --write
    """
    # An inference library is loaded only by the command that needs it.
    from worker.model.engines.self_test import start_engine

    settings = read_settings()
    ref = bundle or settings.model
    if write:
        from worker.model.golden_inputs import add_golden_inputs

        add_golden_inputs(find_bundle(ref))
    golden = load_golden_inputs(ref)
    if golden is None:
        raise UsageError(f"{ref} has no golden inputs; fix: fundus model selftest {ref} --write")
    model = load_model(ref)
    started = start_engine(settings.engine, settings.precision, model, golden, batch_size=settings.max_batch_size)
    found, self_test = started.engine.description, started.self_test
    assert self_test is not None, "there are golden inputs"  # noqa: S101
    if as_json:
        document = {"engine": found.engine, "precision": found.precision, "device": found.device}
        typer.echo(json.dumps({"model_id": model.model_id, "name": model.name, **document, **self_test.figures}))
        return
    stdout_console().print(
        f"{model.name} with {found.engine}, {found.precision}, {found.device}: {self_test.inputs} golden inputs,"
        f" {self_test.describe(found.precision)}",
        soft_wrap=True,
    )
