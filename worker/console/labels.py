"""Labels of the console's pages that the report does not use."""

from worker.core.vocabulary import Assistance, ReviewState

REVIEW_LABELS = {
    ReviewState.UNREAD: "not reviewed",
    ReviewState.HALF_READ: "1 of 2 reviews",
    ReviewState.DISPUTED: "readers disagree",
    ReviewState.READ: "reviewed",
    ReviewState.ARBITRATED: "arbitrated",
}
ASSISTANCE_LABELS = {
    Assistance.ALL: "All readers see the model's result.",
    Assistance.FIRST: "The second of two readers sees the model's result only after their own decision.",
    Assistance.NONE: "Readers see the model's result only after their own decision.",
}
