import pytest
from sqlalchemy import Engine

from producer.runs.lifecycle import RunRequest, open_run
from tests.unit.producer.ledger_rows import MODEL, add_model, make_run, references
from worker.core.errors import NotAcceptedError, RunError, UsageError
from worker.ledger.audit_log import read_audit_log
from worker.ledger.database import read_transaction
from worker.ledger.runs import Run, find_run
from worker.ledger.site_acceptance import (
    SiteVerdict,
    describe_missing_validation,
    find_accepted_models,
    record_verdict,
    require_accepted_model,
)

OTHER = "fedcba9876543210"


@pytest.fixture
def run(engine: Engine) -> Run:
    add_model(engine)
    add_model(engine, OTHER)
    return make_run(engine, "labelled", references("a"))


def decide(engine: Engine, run: Run, *, accepted: bool, site: str = "clinic-a", model_id: str = MODEL) -> None:
    record_verdict(engine, SiteVerdict(site, model_id, run.run_id, ["c0"], 120, {}, accepted), run.name)


def accepted_at(engine: Engine, site: str) -> list[str]:
    with read_transaction(engine) as connection:
        return find_accepted_models(connection, site)


def warning(engine: Engine, site: str | None, model_id: str | None) -> str | None:
    with read_transaction(engine) as connection:
        return describe_missing_validation(connection, site, model_id)


def test_latest_verdict_about_a_model_at_a_site_counts(engine: Engine, run: Run) -> None:
    decide(engine, run, accepted=False)
    assert accepted_at(engine, "clinic-a") == []
    decide(engine, run, accepted=True)
    decide(engine, run, accepted=True, model_id=OTHER)
    decide(engine, run, accepted=False, site="clinic-b")
    assert accepted_at(engine, "clinic-a") == [MODEL, OTHER]
    decide(engine, run, accepted=False)
    assert accepted_at(engine, "clinic-a") == [OTHER]
    assert accepted_at(engine, "clinic-b") == []


def test_verdict_is_in_the_audit_log(engine: Engine, run: Run) -> None:
    decide(engine, run, accepted=True)
    (entry,) = [one for one in read_audit_log(engine, run="labelled", last=9) if one["action"] == "accept"]
    assert entry["details"] == {
        "site": "clinic-a",
        "model_id": MODEL,
        "configurations": ["c0"],
        "images": 120,
        "figures": {},
        "accepted": True,
    }


def test_only_a_run_of_a_site_with_a_model_that_is_not_accepted_is_warned_of(engine: Engine, run: Run) -> None:
    decide(engine, run, accepted=True)
    assert warning(engine, "clinic-a", MODEL) is None
    assert warning(engine, None, OTHER) is None
    assert warning(engine, "clinic-a", None) is None
    assert warning(engine, "clinic-a", OTHER) == "model not validated at this site: clinic-a"
    assert warning(engine, "clinic-b", MODEL) == "model not validated at this site: clinic-b"


def test_only_accepted_model_is_required_and_chosen(engine: Engine, run: Run) -> None:
    with pytest.raises(NotAcceptedError, match="the site is missing; fix: give --site NAME"):
        require_accepted_model(engine, None, MODEL)
    with pytest.raises(
        NotAcceptedError, match="clinic-a has accepted no model; fix: `fundus accept RUN --site clinic-a`"
    ):
        require_accepted_model(engine, "clinic-a", None)
    decide(engine, run, accepted=True)
    assert require_accepted_model(engine, "clinic-a", None) == MODEL
    assert require_accepted_model(engine, "clinic-a", MODEL) == MODEL
    with pytest.raises(NotAcceptedError, match=f"clinic-a has not accepted {OTHER}, accepted are {MODEL}; fix: "):
        require_accepted_model(engine, "clinic-a", OTHER)
    decide(engine, run, accepted=True, model_id=OTHER)
    with pytest.raises(NotAcceptedError, match=f"has accepted 2 models; fix: --model {MODEL} or {OTHER}"):
        require_accepted_model(engine, "clinic-a", None)


def test_site_of_a_run_is_set_once(engine: Engine, run: Run) -> None:
    assert run.site is None

    def again(site: str | None) -> str | None:
        open_run(engine, RunRequest("labelled", "test", site=site), default_chunk_size=2)
        return find_run(engine, "labelled").site

    assert again("clinic-a") == "clinic-a"
    assert again(None) == "clinic-a"
    with pytest.raises(RunError, match="run labelled has site clinic-a, not clinic-b"):
        again("clinic-b")
    with pytest.raises(UsageError, match=r"site 'clinic a' is not 1 to 50 letters"):
        again("clinic a")
