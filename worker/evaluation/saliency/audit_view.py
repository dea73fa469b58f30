"""An audit on the terminal."""

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Table

from worker.evaluation.saliency.audit_document import SaliencyAudit
from worker.evaluation.saliency.pointing_view import draw_game
from worker.evaluation.view import format_estimate


def draw_audit_table(audit: SaliencyAudit) -> RenderableType:
    """The pointing game, and one line for each other trial."""
    table = Table("trial", "found", "beside")
    control = audit.control
    table.add_row(
        "brightest place on a lesion",
        format_estimate(audit.game.whole.map),
        f"learnt nothing: {format_estimate(control.whole.map)}",
    )
    table.add_row(
        "energy on lesions",
        format_estimate(audit.game.whole.energy),
        f"learnt nothing: {format_estimate(control.whole.energy)}",
    )
    area = format_estimate(audit.game.whole.outside_area)
    table.add_row("energy beyond the field", format_estimate(audit.game.whole.outside), f"an even map: {area}")
    if audit.erasing is not None:
        of_map, at_random = audit.erasing.orders["map"], audit.erasing.orders["random"]
        table.add_row(
            "deletion, smaller is better",
            format_estimate(of_map.deletion_area),
            f"random: {format_estimate(at_random.deletion_area)}",
        )
        table.add_row(
            "insertion, larger is better",
            format_estimate(of_map.insertion_area),
            f"random: {format_estimate(at_random.insertion_area)}",
        )
    others = f"another photograph's: {format_estimate(audit.others)}"
    for name, figure in audit.redrawn.items():
        table.add_row(f"map after redrawing: {name}", format_estimate(figure), others)
    for one in audit.turned:
        table.add_row(
            f"map after {one.degrees:+g} degrees",
            format_estimate(one.likeness),
            f"same grade: {format_estimate(one.same_grade)}",
        )
    return Stack(draw_game(audit.game), table)
