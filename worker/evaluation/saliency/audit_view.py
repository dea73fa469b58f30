"""Show a saliency audit on the terminal."""

from rich.console import Group, RenderableType

from worker.evaluation.saliency.audit_document import SaliencyAudit
from worker.evaluation.saliency.pointing_view import draw_game
from worker.evaluation.view import plain_table, stack_estimate


def draw_audit_table(audit: SaliencyAudit) -> RenderableType:
    """Return the pointing game, and one row for each other test next to its reference value."""
    whole, control = audit.game.whole, audit.control.whole
    rows = [
        ("maximum on a lesion", whole.map, "randomised models", control.map),
        ("energy on lesions", whole.energy, "randomised models", control.energy),
        ("energy outside the field", whole.outside, "uniform map", whole.outside_area),
    ]
    for kind, coverage in audit.coverage.kinds.items():
        rows.append((f"map covers {kind}", coverage.lesions, "the field", coverage.field))
    if audit.deletion_insertion is not None:
        of_map, at_random = audit.deletion_insertion.orders["map"], audit.deletion_insertion.orders["random"]
        rows += [
            ("deletion (lower is better)", of_map.deletion_area, "random order", at_random.deletion_area),
            ("insertion (higher is better)", of_map.insertion_area, "random order", at_random.insertion_area),
        ]
    for name, estimate in audit.weight_randomisation.items():
        rows.append((f"map after randomising {name}", estimate, "different photographs", audit.other_images))
    for one in audit.rotation:
        rows.append((f"map rotated by {one.degrees:+g} degrees", one.rank_correlation, "same grade", one.same_grade))
    table = plain_table("test", "result", "of", "reference")
    for name, result, reference_name, reference in rows:
        table.add_row(name, stack_estimate(result), reference_name, stack_estimate(reference))
    return Group(draw_game(audit.game), table)
