"""Labels of the console's pages that the report does not use."""

from worker.core.vocabulary import Review

REVIEW_LABELS = {
    Review.UNREAD: "not reviewed",
    Review.HALF_READ: "1 of 2 reviews",
    Review.DISPUTED: "readers disagree",
    Review.READ: "reviewed",
    Review.ARBITRATED: "arbitrated",
}
