from tests.unit.worker.report.report_rows import NOON, make_snapshot, read, row
from worker.core.vocabulary import Eye, Grade, ReviewState, Status
from worker.report.summary import summarise


def test_every_image_is_counted_once() -> None:
    with make_snapshot(
        row("a", 0, patient="p", reference_grade=0),
        row("b", 2, patient="p", seconds=30, reference_grade=0),
        row("c", 4, seconds=119, reference_grade=4),
        row("d", None, patient="q", seconds=120, reference_grade=1),
        row("e", None, status=Status.QUEUED, settled_at=None),
    ) as rows:
        found = summarise(rows)
    assert found.images == 5
    assert found.by_status == {"graded": 3, "ungradable": 1, "queued": 1}
    assert found.by_grade == {Grade(0): 1, Grade(1): 0, Grade(2): 1, Grade(3): 0, Grade(4): 1}
    assert found.shares[Grade(2)] == 1 / 3
    assert found.referable == 2
    assert found.errors == {("ungradable", "blurred"): 1}
    assert found.confusion == {(0, 0): 1, (0, 2): 1, (4, 4): 1, (1, None): 1}
    assert (found.patients, found.patients_referable, found.patients_attention) == (2, 1, 1)
    assert found.began == NOON


def test_final_grades_and_model_grades_are_counted() -> None:
    with make_snapshot(
        read(row("a", 4, patient="p", reference_grade=4), 0),
        read(row("b", 2, patient="q"), 2),
        read(row("c", None, patient="r"), 3, "arbitrated"),
        read(row("d", 1, patient="s"), None),
        read(row("e", 3, patient="t"), None, "disputed"),
        read(row("f", None, patient="u"), None, "half_read"),
        row("g", 0, patient="v"),
    ) as rows:
        found = summarise(rows)
    assert found.by_status == {"graded": 4, "being read": 2, "ungradable": 1}
    assert found.by_grade == {Grade(0): 2, Grade(1): 0, Grade(2): 1, Grade(3): 1, Grade(4): 0}
    assert found.by_model_grade == {Grade(number): 1 for number in range(5)}
    assert found.errors == {("ungradable", "ungradable_by_reader"): 1}
    assert found.confusion == {(4, 0): 1}
    assert found.reviews == {
        ReviewState.READ: 3,
        ReviewState.ARBITRATED: 1,
        ReviewState.DISPUTED: 1,
        ReviewState.HALF_READ: 1,
    }
    assert found.changed == 3
    # The disputed image, grade 3 by the model, counts as referable until it is decided.
    assert (found.referable, found.patients_referable) == (3, 3)
    assert (found.patients_attention, found.patients_under_review) == (1, 2)


def test_patient_stays_referable_while_two_readers_disagree() -> None:
    eyes = row("a", 2, patient="p", eye=Eye.RIGHT), row("b", 0, patient="p", eye=Eye.LEFT)
    with make_snapshot(*eyes) as rows:
        before = summarise(rows)
    with make_snapshot(read(eyes[0] | {"worst_decision": 2}, None, "disputed"), eyes[1]) as rows:
        disputed = summarise(rows)
    with make_snapshot(read(eyes[0], 0, "arbitrated"), eyes[1]) as rows:
        decided = summarise(rows)
    assert [(one.referable, one.patients_referable) for one in (before, disputed, decided)] == [(1, 1), (1, 1), (0, 0)]


def test_reader_makes_an_image_referable_before_it_is_decided() -> None:
    with make_snapshot(read(row("a", 0, patient="p", worst_decision=2), None, "disputed")) as rows:
        found = summarise(rows)
    assert (found.referable, found.patients_referable) == (1, 1)


def test_throughput_counts_images_in_equal_intervals() -> None:
    with make_snapshot(*(row(str(number), seconds=number) for number in range(121))) as rows:
        throughput = summarise(rows).throughput
    assert len(throughput) == 60
    assert throughput == (2,) * 59 + (3,)


def test_run_settled_at_one_moment_has_one_interval() -> None:
    with make_snapshot(row("a"), row("b")) as rows:
        assert summarise(rows).throughput == (2,)


def test_run_without_images_has_a_summary() -> None:
    with make_snapshot() as rows:
        found = summarise(rows)
    assert (found.images, found.referable, found.throughput, found.began) == (0, 0, (), None)
    assert set(found.shares.values()) == {0.0}
