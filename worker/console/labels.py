"""Labels of the console's pages that the report does not use."""

from worker.core.vocabulary import ReviewState

REVIEW_LABELS = {
    ReviewState.UNREAD: "not reviewed",
    ReviewState.HALF_READ: "1 of 2 reviews",
    ReviewState.DISPUTED: "readers disagree",
    ReviewState.READ: "reviewed",
    ReviewState.ARBITRATED: "arbitrated",
}
