"""Filters on the images of a run: parsed from the query string, translated to SQL conditions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from urllib.parse import urlencode

from sqlalchemy import ColumnElement, and_, func, or_, select

from worker.core.vocabulary import REFERABLE_FROM, REVIEW_FLAGS, REVIEW_MARGIN, Eye, Flag, Grade, ReviewState, Status
from worker.ledger.review_schema import reviews
from worker.ledger.schema import OUTPUTS, gradings, images, models, runs

URGENCY = "urgency"
MAX_SEARCH_CHARS = 128
_YES_NO = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class ImageFilter:
    """Filter on images; None and False match every image. `grade` and `referable` refer to the model's result."""

    grade: int | None = None
    status: Status | None = None
    eye: Eye | None = None
    referable: bool | None = None
    review: ReviewState | None = None
    disagreement: bool = False
    """A reader or the reference grade disagrees with the model."""
    unsure: bool = False
    q: str = ""
    """Part of the path, of the image id or of the patient id."""
    pseudonym: str | None = None
    """What the ledger stores for the patient id `q`, if it stores pseudonyms."""
    sort: str = ""
    """`urgency`, or empty for the order of the image ids."""

    @property
    def query(self) -> str:
        """The query string of this filter and order; empty if it is the default."""
        words = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "pseudonym"}
        given = {name: value for name, value in words.items() if value is not None and value not in (False, "")}
        if self.referable is not None:
            given["referable"] = "yes" if self.referable else "no"
        return urlencode({name: "yes" if value is True else str(value) for name, value in given.items()})

    @property
    def uses_result(self) -> bool:
        """Whether it shows what the model found: by its conditions or by its order."""
        words = (self.grade, self.status, self.referable, self.disagreement or None, self.unsure or None)
        return self.sort == URGENCY or any(word is not None for word in words)

    @property
    def matches_all(self) -> bool:
        """Whether it matches every image."""
        return replace(self, sort="").query == ""


def parse_filter(query: Mapping[str, str]) -> ImageFilter:
    """Parse a query string; empty values do not filter. Raises ValueError for an unknown value."""
    return ImageFilter(
        grade=None
        if (grade := query.get("grade", "")) == ""
        else int(_check_value("grade", grade, map(str, map(int, Grade)))),
        status=None if (status := query.get("status", "")) == "" else Status(_check_value("status", status, Status)),
        eye=None if (eye := query.get("eye", "")) == "" else Eye(_check_value("eye", eye, Eye)),
        referable=None
        if (word := query.get("referable", "")) == ""
        else _YES_NO[_check_value("referable", word, _YES_NO)],
        review=None
        if (review := query.get("review", "")) == ""
        else ReviewState(_check_value("review", review, ReviewState)),
        disagreement=query.get("disagreement", "") != "",
        unsure=query.get("unsure", "") != "",
        q=_check_length("q", query.get("q", "").strip()),
        sort="" if (sort := query.get("sort", "")) == "" else _check_value("sort", sort, (URGENCY,)),
    )


def filter_conditions(image_filter: ImageFilter, run_id: int) -> list[ColumnElement[bool]]:
    """Return the SQL conditions of a filter on `gradings` joined with `images` and outer-joined with `reviews`."""
    found: list[ColumnElement[bool]] = []
    if image_filter.grade is not None:
        # Include the status: it is the first column of the index.
        found += [gradings.c.status == Status.GRADED, gradings.c.grade == image_filter.grade]
    if image_filter.status is not None:
        found.append(gradings.c.status == image_filter.status)
    if image_filter.eye is not None:
        found.append(images.c.eye == image_filter.eye)
    if image_filter.referable is not None:
        found += [gradings.c.status == Status.GRADED, gradings.c.referable.is_(image_filter.referable)]
    if image_filter.review is ReviewState.UNREAD:
        found.append(or_(reviews.c.state.is_(None), reviews.c.state == ReviewState.UNREAD))
    elif image_filter.review is not None:
        found.append(reviews.c.state == image_filter.review)
    if image_filter.disagreement:
        found.append(or_(reviews.c.differs.is_(True), images.c.reference_grade != gradings.c.grade))
    if image_filter.unsure:
        found.append(is_low_confidence(run_id))
    if image_filter.q:
        columns = (images.c.uri, images.c.patient_id, images.c.image_id)
        matches = [column.icontains(image_filter.q, autoescape=True) for column in columns]
        if image_filter.pseudonym is not None:
            matches.append(images.c.patient_id == image_filter.pseudonym)
        found.append(or_(*matches))
    return found


def is_low_confidence(run_id: int | ColumnElement[int]) -> ColumnElement[bool]:
    """Return the SQL condition for low confidence: graded, and almost referable or with a flag that asks for a review.

    run_id: a number, so that the database looks up the thresholds once, or the column of each row.
    """
    score, threshold = gradings.c[OUTPUTS[REFERABLE_FROM]], _threshold(REFERABLE_FROM, run_id)
    almost = and_(gradings.c.grade < REFERABLE_FROM, score > threshold - REVIEW_MARGIN)
    asking = [flag for flag in Flag if flag not in REVIEW_FLAGS]
    return and_(gradings.c.status == Status.GRADED, or_(almost, gradings.c.flags.not_in(["", *asking])))


def _threshold(output: int, run_id: int | ColumnElement[int]) -> ColumnElement[float]:
    """Return the threshold of an output of the run's model; 0.5 if its manifest has none."""
    model, run = models.alias(), runs.alias()
    found = (
        select(model.c.document["thresholds"][output].as_float())
        .join(run, run.c.model_id == model.c.model_id)
        .where(run.c.run_id == run_id)
        .correlate(gradings)
    )
    return func.coalesce(found.scalar_subquery(), 0.5)


def _check_value(name: str, word: str, words: Iterable[object]) -> str:
    known = [str(one) for one in words]
    if word not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}")
    return word


def _check_length(name: str, text: str) -> str:
    if len(text) > MAX_SEARCH_CHARS or "\0" in text:
        raise ValueError(f"{name} must be text of at most {MAX_SEARCH_CHARS} characters")
    return text
