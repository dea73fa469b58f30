"""Write an audit as one page of Markdown."""

from collections.abc import Sequence

from worker.evaluation.bootstrap import Estimate
from worker.evaluation.saliency.audit_document import Control, DeletionInsertion, RotationStability, SaliencyAudit
from worker.evaluation.saliency.pointing_view import PointingGame, ScoreSummary
from worker.evaluation.view import format_estimate

ORDER_NAMES = {"map": "the map's", "centre": "from the centre", "random": "at random"}


def render_audit(audit: SaliencyAudit, plot: str, command: str) -> str:
    """plot: the picture's path, relative to the page. command: what made it."""
    game = audit.game
    parts = [
        f"# Can the maps of {game.model} be trusted?\n",
        f"Model {game.model_id}, {game.whole.images} photographs with marked lesions.\n",
        f"![plots]({plot})\n",
        _tell_pointing(game, audit.control),
        _tell_energy(game.whole, audit.control.whole),
    ]
    if audit.erasing is not None:
        parts.append(_tell_erasing(audit.erasing))
    if audit.redrawn:
        parts.append(_tell_redrawn(audit))
    if audit.turned:
        parts.append(_tell_turned(audit.turned, audit.others))
    parts.append(
        f"## Made by\n\n    {command}\n\nIn brackets: 95% intervals from {game.resamples:,} resamples of photographs.\n"
    )
    return "\n".join(parts)


def _tell_pointing(game: PointingGame, control: Control) -> str:
    scores = {"all": game.whole} | {f"grade {grade}": one for grade, one in game.by_grade.items()}
    controls = {"all": control.whole} | {f"grade {grade}": one for grade, one in control.by_grade.items()}
    rows = [
        (name, str(one.images), *map(format_estimate, (one.map, one.centre, controls[name].map, one.chance)))
        for name, one in scores.items()
    ]
    header = ("the model's grade", "photographs", "map", "field's centre", "learnt nothing", "at random")
    text = (
        "## Does it point at lesions?\n\nThe share of photographs in which the brightest place of the map is no further"
        f" from a lesion than {game.tolerance:.3f} of the field's side. Learnt nothing: {control.models} models whose"
        " layers are all redrawn, explaining the same outputs.\n"
    )
    verdicts = (
        f"Against the field's centre, on the same photographs: {_tell_change(game.whole.over_centre)}."
        f" Against models that learnt nothing: {_tell_change(control.over_control)}.\n"
    )
    return "\n".join([text, _table(header, rows), verdicts])


def _tell_energy(whole: ScoreSummary, control: ScoreSummary) -> str:
    rows = [
        ("the model's map", format_estimate(whole.energy), format_estimate(whole.outside)),
        ("a Gaussian about the centre", format_estimate(whole.centre_energy), "-"),
        ("models that learnt nothing", format_estimate(control.energy), format_estimate(control.outside)),
        ("an even map", format_estimate(whole.chance), format_estimate(whole.outside_area)),
    ]
    text = "## Where is its energy?\n\nOf the map's sum in the field, on lesions; and of all of it, beyond the field.\n"
    return "\n".join([text, _table(("map", "on lesions", "beyond the field"), rows)])


def _tell_erasing(erasing: DeletionInsertion) -> str:
    rows = [
        (ORDER_NAMES[order], format_estimate(curves.deletion_area), format_estimate(curves.insertion_area))
        for order, curves in erasing.orders.items()
    ]
    text = (
        "## Does the grade hang on what it points at?\n\nThe area under the probability of the explained output while"
        " the picture is blurred (deletion: the smaller the better) or brought back (insertion: the larger the better),"
        f" pixel by pixel, in {erasing.images} photographs of grade 1 and worse.\n"
    )
    verdicts = (
        f"By the map's order the area of deletion is smaller than at random by {format_estimate(erasing.sooner)},"
        f" and that of insertion larger by {format_estimate(erasing.later)}.\n"
    )
    return "\n".join([text, _table(("order of pixels", "deletion", "insertion"), rows), verdicts])


def _tell_redrawn(audit: SaliencyAudit) -> str:
    rows = [(name, format_estimate(figure)) for name, figure in audit.redrawn.items()]
    text = (
        "## Does the map hang on what was learnt?\n\nRank correlation of each map with the one of the same output once"
        " these layers have lost what they learnt. It should fall to that of another photograph's map,"
        f" {format_estimate(audit.others)}.\n"
    )
    return "\n".join([text, _table(("layers redrawn", "correlation"), rows)])


def _tell_turned(turned: list[RotationStability], others: Estimate) -> str:
    rows = [
        (
            f"{one.degrees:+g}",
            format_estimate(one.likeness),
            format_estimate(one.same_grade),
            format_estimate(one.change),
        )
        for one in turned
    ]
    text = (
        "## Does it turn with the photograph?\n\nRank correlation of the map, turned back, with the upright one"
        f" (another photograph's map has {format_estimate(others)}); how many keep their grade; by how much"
        " the explained output's probability changes.\n"
    )
    return "\n".join([text, _table(("degrees", "correlation", "same grade", "change of probability"), rows)])


def _tell_change(figure: Estimate) -> str:
    """A difference with its sign."""
    if figure.value is None or figure.low is None or figure.high is None:
        return "-"
    return f"{figure.value:+.3f} ({figure.low:+.3f} to {figure.high:+.3f})"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
