"""An audit on the terminal."""

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Table

from worker.evaluation.saliency.audit_document import Audit
from worker.evaluation.saliency.pointing_view import draw_game
from worker.evaluation.view import tell


def draw_findings(audit: Audit) -> RenderableType:
    """The pointing game, and one line for each other trial."""
    table = Table("trial", "found", "beside")
    control = audit.control
    table.add_row(
        "brightest place on a lesion", tell(audit.game.whole.map), f"learnt nothing: {tell(control.whole.map)}"
    )
    table.add_row("energy on lesions", tell(audit.game.whole.energy), f"learnt nothing: {tell(control.whole.energy)}")
    area = tell(audit.game.whole.outside_area)
    table.add_row("energy beyond the field", tell(audit.game.whole.outside), f"an even map: {area}")
    if audit.erasing is not None:
        of_map, at_random = audit.erasing.orders["map"], audit.erasing.orders["random"]
        table.add_row(
            "deletion, smaller is better", tell(of_map.deletion_area), f"random: {tell(at_random.deletion_area)}"
        )
        table.add_row(
            "insertion, larger is better", tell(of_map.insertion_area), f"random: {tell(at_random.insertion_area)}"
        )
    others = f"another photograph's: {tell(audit.others)}"
    for name, figure in audit.redrawn.items():
        table.add_row(f"map after redrawing: {name}", tell(figure), others)
    for one in audit.turned:
        table.add_row(f"map after {one.degrees:+g} degrees", tell(one.likeness), f"same grade: {tell(one.same_grade)}")
    return Stack(draw_game(audit.game), table)
