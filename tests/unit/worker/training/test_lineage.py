"""The training set of weights that have several origins."""

from worker.training.lineage import Lineage


def test_union_has_seen_what_one_of_them_has_seen() -> None:
    both = Lineage(frozenset({"a" * 16})) | Lineage(frozenset({"b" * 16}))
    assert both.has_seen({"b" * 64}) == "yes"
    assert both.has_seen({"c" * 64}) == "no"


def test_union_with_an_unknown_training_set_is_unknown() -> None:
    assert (Lineage(frozenset()) | Lineage(None)).has_seen({"c" * 64}) == "unknown"
