"""What the pages call things."""

from worker.core.vocabulary import Eye, Flag, Grade, Review

GRADE_WORDS = {
    int(Grade.NO_DR): "No DR",
    int(Grade.MILD): "Mild",
    int(Grade.MODERATE): "Moderate",
    int(Grade.SEVERE): "Severe",
    int(Grade.PROLIFERATIVE): "Proliferative",
}
EYES = {Eye.RIGHT: "right eye", Eye.LEFT: "left eye", Eye.UNKNOWN: "eye not named"}
REVIEW_WORDS = {
    Review.UNREAD: "not read",
    Review.HALF_READ: "read once of twice",
    Review.DISPUTED: "readers differ",
    Review.READ: "read",
    Review.ARBITRATED: "arbitrated",
}
REMARKS = {
    Flag.NO_OUTPUT_PASSED: "No output passed its threshold.",
    Flag.NOT_MONOTONE: "The chances do not fall from grade to grade: look twice.",
    Flag.NO_EVIDENCE: "Nothing in the photograph speaks for the grade: look twice.",
}
