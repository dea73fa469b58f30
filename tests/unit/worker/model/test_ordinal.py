from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.vocabulary import Flag, Grade
from worker.model.ordinal import class_probabilities, decode_outputs, describe_explained_outputs

HALF = (0.5,) * 5


def notebook_grade(row: list[int]) -> int:
    """Set all columns before the last 1 to 1; the grade is their sum minus 1."""
    raised = list(row)
    for column in range(len(row) - 1, 0, -1):
        if raised[column] == 1:
            raised[column - 1] = 1
    return sum(raised) - 1


@pytest.mark.parametrize("pattern", list(product([0, 1], repeat=5)))
def test_every_pattern_of_passed_outputs_decodes_as_in_the_notebook(pattern: tuple[int, ...]) -> None:
    outputs = np.where(pattern, np.float32(0.9), np.float32(0.1)).astype(np.float32)
    decision = decode_outputs(outputs, HALF)
    # The notebook has grade -1 if no output is passed; here it is grade 0 with a flag.
    expected = notebook_grade(list(pattern))
    assert decision.grade == max(expected, 0)
    assert decision.referable == (expected >= 2)
    assert (Flag.NO_OUTPUT_PASSED in decision.flags) == (expected == -1)
    assert (Flag.NOT_MONOTONE in decision.flags) == (list(pattern) != sorted(pattern, reverse=True))


def test_output_at_its_threshold_does_not_pass() -> None:
    outputs = np.array([0.9, 0.5, 0.2, 0.1, 0.0], np.float32)
    assert decode_outputs(outputs, HALF).grade is Grade.NO_DR
    assert decode_outputs(outputs, (0.5, 0.4999, 0.5, 0.5, 0.5)).grade is Grade.MILD


def test_threshold_is_compared_in_float32() -> None:
    outputs = np.array([0.9, 0.3, 0.0, 0.0, 0.0], np.float32)
    assert float(outputs[1]) > 0.3
    assert decode_outputs(outputs, (0.5, 0.3, 0.5, 0.5, 0.5)).grade is Grade.NO_DR


def test_equal_outputs_are_monotone() -> None:
    assert decode_outputs(np.full(5, 0.75, np.float32), HALF).flags == ()


def test_smallest_increase_is_flagged_and_does_not_change_the_grade() -> None:
    outputs = np.array([0.99, 0.001, 0.0005, 0.002, 0.002], np.float32)
    decision = decode_outputs(outputs, HALF)
    assert decision.flags == (Flag.NOT_MONOTONE,)
    assert decision.grade is Grade.NO_DR


def test_class_probabilities_are_differences_of_outputs() -> None:
    outputs = np.array([0.96875, 0.75, 0.5, 0.25, 0.125], np.float32)
    np.testing.assert_array_equal(class_probabilities(outputs), np.array([0.25, 0.25, 0.25, 0.125, 0.125], np.float32))


def test_output_raises_lower_outputs_before_differences_are_taken() -> None:
    outputs = np.array([0.25, 0.5, 0.125, 0.75, 0.25], np.float32)
    np.testing.assert_array_equal(class_probabilities(outputs), np.array([0.25, 0, 0, 0.5, 0.25], np.float32))


@given(st.lists(st.floats(0, 1, width=32), min_size=5, max_size=5))
def test_class_probabilities_sum_to_one(values: list[float]) -> None:
    probabilities = class_probabilities(np.array(values, np.float32))
    assert probabilities.dtype == np.float32
    assert probabilities.min() >= 0
    assert probabilities.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ((0, 4), "evidence for the model's grade"),
        ((1, 2), "evidence for referable DR, or for any DR below grade 2"),
        ((2, 2), "evidence for grade 2 or worse"),
        ((1, 3), "evidence for the model's grade, limited to grades 1 to 3"),
    ],
)
def test_explained_outputs_are_described(outputs: tuple[int, int], words: str) -> None:
    assert describe_explained_outputs(outputs) == words
