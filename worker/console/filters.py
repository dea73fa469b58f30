"""Which images of a run are asked for, and the same as conditions on the ledger."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from urllib.parse import urlencode

from sqlalchemy import ColumnElement, and_, func, or_, select

from worker.core.vocabulary import NEAR, Eye, Grade, Review, Status
from worker.ledger.review_schema import reviews
from worker.ledger.schema import OUTPUTS, gradings, images, models, runs

_YES_NO = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class Filter:
    """None and False: whatever it is. `grade` and `referable` are the model's."""

    grade: int | None = None
    status: Status | None = None
    eye: Eye | None = None
    referable: bool | None = None
    review: Review | None = None
    disagreement: bool = False
    """A reader or the reference grade says otherwise than the model."""
    unsure: bool = False

    @property
    def query(self) -> str:
        """The part of an address that asks for it; empty for all images."""
        words = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in words.items() if value is not None and value is not False}
        if self.referable is not None:
            given["referable"] = "yes" if self.referable else "no"
        return urlencode({name: "yes" if value is True else str(value) for name, value in given.items()})


def parse_filter(query: Mapping[str, str]) -> Filter:
    """Empty values mean nothing in particular. Raises ValueError with a sentence."""
    return Filter(
        grade=None
        if (grade := query.get("grade", "")) == ""
        else int(_known("grade", grade, map(str, map(int, Grade)))),
        status=None if (status := query.get("status", "")) == "" else Status(_known("status", status, Status)),
        eye=None if (eye := query.get("eye", "")) == "" else Eye(_known("eye", eye, Eye)),
        referable=None if (word := query.get("referable", "")) == "" else _YES_NO[_known("referable", word, _YES_NO)],
        review=None if (review := query.get("review", "")) == "" else Review(_known("review", review, Review)),
        disagreement=query.get("disagreement", "") != "",
        unsure=query.get("unsure", "") != "",
    )


def conditions(wanted: Filter, run_id: int) -> list[ColumnElement[bool]]:
    """On `gradings` joined with `images` and, by an outer join, with `reviews`."""
    found: list[ColumnElement[bool]] = []
    if wanted.grade is not None:
        # The status as well: the index has it first.
        found += [gradings.c.status == Status.GRADED, gradings.c.grade == wanted.grade]
    if wanted.status is not None:
        found.append(gradings.c.status == wanted.status)
    if wanted.eye is not None:
        found.append(images.c.eye == wanted.eye)
    if wanted.referable is not None:
        found += [gradings.c.status == Status.GRADED, gradings.c.referable.is_(wanted.referable)]
    if wanted.review is Review.UNREAD:
        found.append(or_(reviews.c.state.is_(None), reviews.c.state == Review.UNREAD))
    elif wanted.review is not None:
        found.append(reviews.c.state == wanted.review)
    if wanted.disagreement:
        found.append(or_(reviews.c.differs.is_(True), images.c.reference_grade != gradings.c.grade))
    if wanted.unsure:
        found.append(is_unsure(run_id))
    return found


def is_unsure(run_id: int | ColumnElement[int]) -> ColumnElement[bool]:
    """Graded, and asks to be looked at twice: an output near its threshold, or a flag.

    run_id: a number, of which the database looks thresholds up once, or the column of each row.
    """
    near = []
    for output, name in list(enumerate(OUTPUTS))[Grade.MILD :]:
        threshold = _threshold(output, run_id)
        near.append(and_(gradings.c[name] > threshold - NEAR, gradings.c[name] < threshold + NEAR))
    return and_(gradings.c.status == Status.GRADED, or_(*near, gradings.c.flags != ""))


def _threshold(output: int, run_id: int | ColumnElement[int]) -> ColumnElement[float]:
    """Of the run's model; 0.5 where its document does not say."""
    model, run = models.alias(), runs.alias()
    found = (
        select(model.c.document["thresholds"][output].as_float())
        .join(run, run.c.model_id == model.c.model_id)
        .where(run.c.run_id == run_id)
        .correlate(gradings)
    )
    return func.coalesce(found.scalar_subquery(), 0.5)


def _known(name: str, word: str, words: Iterable[object]) -> str:
    known = [str(one) for one in words]
    if word not in known:
        raise ValueError(f"{name} is one of {', '.join(known)}")
    return word
