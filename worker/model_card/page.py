"""Write the model card as Markdown."""

from collections.abc import Sequence

from worker.core.vocabulary import Grade
from worker.evaluation.agreement import CUTS
from worker.evaluation.saliency.pointing_view import PointingGame, ScoreSummary
from worker.evaluation.view import format_auc_loss, format_estimate, format_name
from worker.model.bundle.bundle import Bundle
from worker.model.bundle.ensemble import Ensemble, Model
from worker.model.bundle.fit_record import FitRecord
from worker.model.ordinal import describe_explained_outputs
from worker.model_card.held_out_grading import HeldOutEvaluation

LIMITS = (
    "Not a medical device, and no decision about a patient may rest on it alone.",
    "Referable means grade 2 or worse. Macular oedema has no label in the training data and is not looked for.",
    "A grade says nothing of other diseases: glaucoma, macular degeneration, occlusions, tumours.",
    "Reference grades are one grader's or one panel's; identical pictures with different grades are among them.",
    "Age, sex, ethnicity and camera are not recorded in these data: no figure tells how groups of people differ.",
    "A map shows coarsely which part of the picture spoke. It is no segmentation of lesions.",
)


def render_card(
    model: Model, judged: Sequence[HeldOutEvaluation], pointing: PointingGame | None, plots: Sequence[str], command: str
) -> str:
    """All of it. plots: paths of pictures, relative to the card. command: what made it."""
    parts = [
        f"# {model.name}\n",
        _tell_network(model) if isinstance(model, Bundle) else _tell_ensemble(model),
        "It grades diabetic retinopathy, 0 to 4, in colour photographs of the retina, and shows where it looked. "
        "Five cumulative outputs, each the chance of that grade or worse; the colours of a map show "
        f"{describe_explained_outputs(model.explained_outputs)}, by Grad-CAM.\n",
        *(_tell_learning(model, "##") if isinstance(model, Bundle) else _tell_members(model)),
        *(_tell_set(each) for each in judged),
    ]
    if pointing is not None:
        parts.append(_tell_pointing(pointing))
    parts += [_tell_limits(model.manifest.notes, judged), *(f"![{path}]({path})\n" for path in plots)]
    parts.append(
        f"## Made by\n\n    {command}\n\nIntervals are 95%: resampled patients, or images where no patient is known.\n"
    )
    return "\n".join(parts)


def _tell_network(bundle: Bundle) -> str:
    manifest, side = bundle.manifest, bundle.recipe.input_size_px
    return (
        f"Model {bundle.model_id}, {manifest.architecture}, {side} x {side} pixels. "
        f"Weights SHA-256 {manifest.weights_sha256}. Licence: {manifest.licence}\n"
    )


def _tell_ensemble(ensemble: Ensemble) -> str:
    members = ensemble.manifest.members
    total = sum(member.weight for member in members)
    rows = [
        (
            member.manifest.name,
            member.manifest.model_id,
            member.manifest.architecture,
            str(member.manifest.recipe.input_size_px),
            f"{member.weight / total:.3g}",
            ", ".join(member.views),
        )
        for member in members
    ]
    passes = sum(len(member.views) for member in members)
    text = (
        f"Model {ensemble.model_id}, an ensemble: the members' logits are averaged, and their maps in the same shares,"
        f" which gives the exact map of the averaged logit. {passes} forward passes an image.\n"
    )
    return "\n".join([text, _table(("member", "model", "backbone", "pixels", "share", "looks"), rows)])


def _tell_members(ensemble: Ensemble) -> list[str]:
    told = []
    for number, network in enumerate(ensemble.networks, start=1):
        told += [f"## Member {number}: {network.name}\n", _tell_network(network), *_tell_learning(network, "###")]
    return told


def _tell_learning(bundle: Bundle, level: str) -> list[str]:
    """What a network has learnt from and how its pictures are made, under headings of this level."""
    manifest = bundle.manifest
    recipe = [(name, str(value)) for name, value in bundle.recipe.model_dump().items()]
    return [
        f"{level} Learnt from\n\n{manifest.training_data}.\n",
        _tell_fit(manifest.fit),
        f"{level} Preprocessing\n",
        _table(("of the recipe", "value"), recipe),
    ]


def _tell_fit(record: FitRecord | None) -> str:
    if record is None:
        return "Nobody wrote down which pictures these weights have learnt from, nor how.\n"
    start = f"the weights {record.initial_model_id}" if record.initial_model_id else "random weights"
    whole = "all that they ever learnt from" if record.ancestry == "known" else "not what came before this fit"
    rows = [
        ("begun with", start),
        ("photographs learnt from, by grade", _by_grade(record.training)),
        ("photographs that chose the epoch, by grade", _by_grade(record.validation)),
        ("left out as unsound or ungradable", str(record.left_out)),
        ("`split.csv` lists", f"{whole}; SHA-256 {record.split_sha256}"),
        ("manifest SHA-256", record.manifest_sha256),
        ("epochs, best", f"{record.epochs}, {record.best_epoch}, by its {record.chosen_by or 'kappa'}"),
        (
            "thresholds",
            "0.5" if record.thresholds is None else f"with the highest {record.thresholds} on what was learnt from",
        ),
        ("share of the weights that it began with", f"{record.initial_share or 0:g}"),
        (
            "seed, batch, learning rate, weight decay",
            _list(record.seed, record.batch_size, record.learning_rate, record.weight_decay),
        ),
        ("learning rate after the warm-up", record.schedule or "falls to zero by a cosine"),
        ("weight average, balance of grades, precision", _list(record.averaging, record.balance, record.precision)),
        ("libraries", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
    ]
    return _table(("of the fit", ""), rows)


def _tell_set(judged: HeldOutEvaluation) -> str:
    evaluation = judged.evaluation
    figures = evaluation.figures
    counts = ", ".join(f"{count:,} {status}" for status, count in sorted(evaluation.by_status.items()))
    whole = ("quadratic_weighted_kappa", "accuracy", "gradable_fraction")
    rows = [(format_name(name), format_estimate(figures[name])) for name in whole]
    for cut in CUTS:
        wanted = ("auc", "sensitivity", "specificity", "sensitivity_at_specificity_90", "calibration_error")
        rows += [(format_name(f"{cut}_{name}"), format_estimate(figures[f"{cut}_{name}"])) for name in wanted]
    grades = [
        (
            f"{grade:d}",
            *map(str, counts_of),
            format_estimate(figures[f"recall_grade_{grade:d}"]),
            format_estimate(figures[f"precision_grade_{grade:d}"]),
        )
        for grade, counts_of in zip(Grade, evaluation.confusion, strict=True)
    ]
    header = ("reference", *(f"as {grade:d}" for grade in Grade), "recall", "precision")
    return "\n".join(
        [
            f"## {judged.name}\n",
            f"{evaluation.labelled:,} photographs: {counts}. Manifest SHA-256 {judged.manifest_sha256}. "
            f"{_independence(judged)}\n",
            _table(("figure", "value (95% interval)"), rows),
            "".join(f"{line}\n" for line in format_auc_loss(evaluation)),
            _table(header, grades),
        ]
    )


def _independence(judged: HeldOutEvaluation) -> str:
    if judged.excluded_as_trained is None:
        return (
            "**Whether the weights have learnt from these pictures is not on record; if they have, the figures are "
            "worth nothing.** Hold this set against what they learnt from, above."
        )
    left = (
        f" ({judged.excluded_as_trained:,} others of the manifest were learnt from and are left out)"
        if judged.excluded_as_trained
        else ""
    )
    return f"None of them was ever learnt from: no pixel hash of them is among the training part of `split.csv`{left}."


def _tell_pointing(game: PointingGame) -> str:
    scores = {"all": game.whole} | {f"graded {grade}": score for grade, score in game.by_grade.items()}
    text = (
        "## Where it looks\n\nHow much of the brightest part of a map lies on a lesion, or within "
        f"{game.tolerance:.3f} of the field's side of one, in photographs with lesion masks; and of its energy."
        " `fundus model audit` puts the maps to more trials.\n"
    )
    header = ("maps", "photographs", "on a lesion", "the field's middle, no model", "a place at random", "energy")
    return "\n".join([text, _table(header, [_tell_score(name, score) for name, score in scores.items()])])


def _tell_score(name: str, score: ScoreSummary) -> tuple[str, ...]:
    figures = (score.map, score.centre, score.chance, score.energy)
    return (name, str(score.images), *(format_estimate(figure) for figure in figures))


def _tell_limits(notes: str, judged: Sequence[HeldOutEvaluation]) -> str:
    weak = []
    for each in judged:
        recalls = {grade: each.evaluation.figures[f"recall_grade_{grade:d}"].value for grade in Grade}
        told = {grade: value for grade, value in recalls.items() if value is not None}
        low = [f"{grade:d} ({value:.2f})" for grade, value in told.items() if value < 0.5]
        if low:
            weak.append(f"{each.name}: fewer than half are found of grade {', '.join(low)}.")
    lines = [*LIMITS, *weak, *([notes] if notes else [])]
    return "\n".join(["## Limits\n", *(f"- {line}" for line in lines), ""])


def _by_grade(counts: Sequence[int]) -> str:
    return f"{sum(counts):,}: {' / '.join(f'{count:,}' for count in counts)}"


def _list(*values: object) -> str:
    return ", ".join(map(str, values))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines) + "\n"
