"""`fundus capacity`: estimate the workers that a night needs."""

from datetime import time
from typing import Annotated

import typer

from producer.capacity import CapacityEstimate, WorkerRate, estimate_capacity, limit_rate, read_worker_rate
from worker.core.errors import UsageError
from worker.core.settings import read_settings
from worker.core.terminal.output import print_json, stdout_console
from worker.ledger.migrate import open_ledger

app = typer.Typer()


@app.command()
def capacity(
    images: Annotated[int, typer.Option(min=1, help="Images of the night.")],
    by: Annotated[str, typer.Option(metavar="HH:MM", help="Time by which all images must be graded, in UTC.")],
    *,
    begin: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="HH:MM", help="Time at which the night begins.", show_default="FUNDUS_NIGHTLY_AT"
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Run to take the rate from.", show_default="the latest of 100 images or more"),
    ] = None,
    shared_by: Annotated[
        int, typer.Option(min=1, metavar="WORKERS", help="Number of workers that graded that run.")
    ] = 1,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="IMAGES_PER_S", help="Images/s of one worker, instead of a run's rate."),
    ] = None,
    cores: Annotated[
        int | None, typer.Option(min=1, help="Cores of one worker; --rate is then that of its device alone.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes of one worker, with --cores.", show_default="1")
    ] = None,
    spare: Annotated[int, typer.Option(min=0, max=90, metavar="PERCENT", help="Spare capacity in percent.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Estimate the number of workers that a night needs, one per GPU, from the rate of a run in the ledger.

    Spare capacity covers restarts, slow storage and unavailable services.

    Examples:
    $ fundus capacity --images 20000 --by 06:00
    $ fundus capacity --images 20000 --by 06:00 --like night-1 --shared-by 2
    $ fundus capacity --images 20000 --by 06:00 --rate 12.5 --json
    $ fundus capacity --images 500000 --by 06:00 --rate 900 --cores 16 --processes 4
    """
    if rate is not None and like is not None:
        raise UsageError("--rate and --like exclude each other")
    if processes is not None and cores is None:
        raise UsageError("--processes needs --cores")
    if cores is not None and rate is None:
        raise UsageError("--cores needs --rate: the images/s of a run are those of its device and cores together")
    settings = read_settings()
    begin_at = _parse_time("--from", begin or settings.nightly_at)
    end_at = _parse_time("--by", by)
    if rate is None:
        measured = read_worker_rate(open_ledger(settings), like, shared_by)
    else:
        measured = WorkerRate(rate) if cores is None else limit_rate(rate, processes or 1, cores)
    estimate = estimate_capacity(images, begin_at, end_at, measured, spare / 100)
    if json:
        print_json(_describe(estimate))
        return
    console = stdout_console()
    console.print(
        f"{images:,} images from {begin_at:%H:%M} to {end_at:%H:%M} UTC: {estimate.needed:,.2f} images/s are needed"
    )
    seen = f", as in {measured.run} ({measured.images:,} images)" if measured.run else ""
    limit = f", all that {measured.limited_by} can feed to a device" if measured.limited_by else ""
    console.print(f"one worker grades {measured.rate:,.2f} images/s{seen}{limit}", soft_wrap=True)
    workers = "1 worker is" if estimate.workers == 1 else f"{estimate.workers:,} workers are"
    console.print(f"{workers} needed with {spare} % spare capacity; earliest end at {estimate.done:%H:%M}")


def _parse_time(option: str, text: str) -> time:
    try:
        return time.fromisoformat(text if len(text) == 5 else "")
    except ValueError:
        raise UsageError(f"{option} {text!r}: expected a time of day in UTC as HH:MM") from None


def _describe(estimate: CapacityEstimate) -> dict[str, object]:
    return {
        "images": estimate.images,
        "from": f"{estimate.begin:%H:%M}",
        "by": f"{estimate.by:%H:%M}",
        "images_per_s_needed": estimate.needed,
        "images_per_s_of_a_worker": estimate.measured.rate,
        "measured_in": estimate.measured.run,
        "limited_by": estimate.measured.limited_by,
        "spare": estimate.spare,
        "workers": estimate.workers,
        "done_at": f"{estimate.done:%H:%M}",
    }
