"""`fundus accept`: accept or refuse a model for a site."""

from typing import Annotated

import typer
from rich.console import Console

from worker.core.errors import RunError, UsageError
from worker.core.settings import read_settings
from worker.evaluation.labelled import find_graded_run, read_labelled
from worker.evaluation.site_acceptance import draw_site_evaluation, evaluate_for_site
from worker.ledger.configurations import read_used_configurations
from worker.ledger.migrate import open_ledger
from worker.ledger.runs import find_run
from worker.ledger.site_acceptance import SiteVerdict, check_site_name, record_verdict

app = typer.Typer()


@app.command()
def accept(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Finished run of the site, with reference grades.")],
    site: Annotated[str, typer.Option(metavar="NAME", help="Site where the photographs were taken.")],
    *,
    sensitivity: Annotated[
        float, typer.Option(help="Least lower end of the sensitivity's interval, in (0, 1).")
    ] = 0.85,
    specificity: Annotated[
        float, typer.Option(help="Least lower end of the specificity's interval, in (0, 1).")
    ] = 0.80,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Accept or refuse the model of a run for a site, and record the verdict.

    At least 100 photographs of the site with a reference grade are needed. The model is accepted if the lower ends
    of the exact 95 % intervals reach the required sensitivity and specificity for referable DR; photographs of one
    patient count together. An ungradable photograph counts as referred. The latest verdict counts.

    Exit status: 0 if the model is accepted, 1 if it is refused, 2 if the run does not allow a verdict.

    Examples:
    $ fundus accept clinic-a-1 --site clinic-a
    $ fundus accept clinic-a-1 --site clinic-a --sensitivity 0.9 --specificity 0.75
    """
    for option, value in (("--sensitivity", sensitivity), ("--specificity", specificity)):
        if not 0 < value < 1:
            raise UsageError(f"{option} {value:g} is not between 0 and 1")
    check_site_name(site)
    engine = open_ledger(read_settings())
    found = find_run(engine, run)
    if found.site != site:
        raise RunError(
            f"run {run} is of {f'site {found.site}' if found.site else 'no site'}, not of {site}; fix: "
            + ("accept it for its own site" if found.site else f"enqueue it again with --site {site}")
        )
    graded = find_graded_run(engine, run)
    evaluation = evaluate_for_site(
        site, graded, read_labelled(engine, graded), sensitivity=sensitivity, specificity=specificity
    )
    used, _ = read_used_configurations(engine, graded.run_id)
    verdict = SiteVerdict(
        site=site,
        model_id=evaluation.model_id,
        run_id=graded.run_id,
        configurations=[one.configuration.configuration_id for one in used],
        images=evaluation.images,
        figures={name: figure.model_dump(mode="json") for name, figure in evaluation.figures.items()},
        accepted=evaluation.accepted,
    )
    record_verdict(engine, verdict, graded.name)
    if json:
        typer.echo(evaluation.to_json())
    else:
        Console(highlight=False).print(draw_site_evaluation(evaluation))
    if not evaluation.accepted:
        raise typer.Exit(1)
