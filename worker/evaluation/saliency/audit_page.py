"""Render a saliency audit as a Markdown page."""

from worker.evaluation.markdown import render_markdown
from worker.evaluation.plot_style import dark_variant
from worker.evaluation.saliency.audit_document import ORDER_NAMES, SaliencyAudit


def render_audit(audit: SaliencyAudit, plot: str, command: str) -> str:
    """Return the page. plot: path of the plots relative to the page. command: command line that made the audit."""
    control = audit.control.scores
    perturbation = audit.deletion_insertion
    return render_markdown(
        "worker.evaluation.saliency",
        "audit.md",
        audit=audit,
        game=audit.game,
        plot=plot,
        dark_plot=dark_variant(plot),
        command=command,
        pointing_rows=[
            (name, score.images, score.map, score.centre, control[name].map, score.chance)
            for name, score in audit.game.scores.items()
        ],
        coverage_rows=[(kind, one.images, one.lesions, one.field) for kind, one in audit.coverage.kinds.items()],
        perturbation_rows=[]
        if perturbation is None
        else [
            (ORDER_NAMES[order], curves.deletion_area, curves.insertion_area)
            for order, curves in perturbation.orders.items()
        ],
        rotation_rows=[
            (f"{one.degrees:+g}", one.rank_correlation, one.same_grade, one.probability_change)
            for one in audit.rotation
        ],
    )
