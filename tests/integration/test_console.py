"""The console over real HTTP on both databases: sign-in, forms, pages, review, and attacks."""

import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import httpx
import numpy as np
import psycopg
import pytest
from sqlalchemy import Engine, select, update

from tests.services.console import serve_console
from tests.services.console_client import ConsoleClient, form_token_of
from tests.unit.producer.ledger_rows import MODEL, grade, make_run
from tests.unit.worker.console.accounts_and_runs import PASSWORD, add_users, graded_run
from worker.console.security_headers import CONTENT_SECURITY_POLICY
from worker.core.manifests.image_reference import ImageReference
from worker.core.settings import Settings, parse_settings
from worker.core.storage.storage import Storage
from worker.core.vocabulary import Role
from worker.ledger.audit_log import read_audit_log
from worker.ledger.database import connect, read_transaction, write_transaction
from worker.ledger.export import export_run
from worker.ledger.export_formats import ExportFormat
from worker.ledger.migrate import require_compatible
from worker.ledger.photograph_views import read_views
from worker.ledger.review_schema import decisions
from worker.ledger.runs import Run
from worker.ledger.schema import gradings, images, models, runs
from worker.ledger.site_acceptance import SiteVerdict, record_verdict

SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
ROLES = Path(__file__).parents[2] / "deploy" / "postgres" / "roles.sql"
PEOPLE = {"vera": Role.VIEWER, "anna": Role.GRADER, "ben": Role.GRADER, "cleo": Role.GRADER, "olga": Role.OPERATOR}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
IMAGE = "/runs/night/images/00000"


@pytest.fixture(
    params=["sqlite_url", pytest.param("postgres_url", marks=pytest.mark.slow)], ids=["sqlite", "postgresql"]
)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = connect(parse_settings(database_url=request.getfixturevalue(request.param)), pool_size=20)
    yield engine
    engine.dispose()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """A folder of photographs that the console may read."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(make_settings: Callable[..., Settings], inbox: Path) -> Settings:
    return make_settings(source_roots=f"{SAMPLES},{inbox}", decode_processes=1)


@pytest.fixture
def run(engine: Engine) -> Run:
    add_users(engine, **PEOPLE)
    return graded_run(engine, [2, 0, None, 4, 1])


@pytest.fixture
def address(settings: Settings, engine: Engine, run: Run) -> Iterator[str]:
    with serve_console(settings, engine) as address:
        yield address


@pytest.fixture
def visit(address: str) -> Iterator[Callable[[str], ConsoleClient]]:
    """Return a function that signs a user in."""
    visitors: list[ConsoleClient] = []

    def visit(name: str) -> ConsoleClient:
        visitors.append(ConsoleClient(address))
        assert visitors[-1].sign_in(name, PASSWORD).status_code == 200
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.client.close()


def test_nothing_is_shown_without_sign_in(address: str) -> None:
    with ConsoleClient(address) as stranger:
        for path in (
            "/",
            "/runs",
            "/runs/night",
            "/runs/night/progress",
            IMAGE,
            f"{IMAGE}/photograph",
            f"{IMAGE}/overlay",
            f"{IMAGE}/map",
            f"{IMAGE}/contours",
            "/map-scale.png",
        ):
            found = stranger.client.get(path, follow_redirects=False)
            assert found.status_code == 303, path
        assert "<h1>Sign in</h1>" in stranger.get(IMAGE).text
        for path in (
            "/sign-out",
            "/runs/night/next",
            "/runs/night/readers",
            f"{IMAGE}/decision",
            f"{IMAGE}/undo",
            f"{IMAGE}/lease",
        ):
            found = stranger.client.post(path, data={"grade": "0"}, follow_redirects=False)
            assert found.status_code == 303, path
            assert found.headers["location"] == "/sign-in"
        assert stranger.client.get("/runs", headers={"hx-request": "true"}).status_code == 401
        assert stranger.get("/healthz").text == "ok\n"
        assert stranger.get("/static/../app.py").status_code in (303, 404)
        assert stranger.get("/static/%2e%2e/app.py").status_code == 404


def test_model_that_is_not_accepted_at_the_site_is_named_on_run_and_image(
    engine: Engine, run: Run, visit: Callable[[str], ConsoleClient]
) -> None:
    warning = "model not validated at this site: clinic-a"
    anna = visit("anna")
    assert all(warning not in anna.get(path).text for path in ("/runs/night", IMAGE))
    with write_transaction(engine) as connection:
        connection.execute(update(runs).where(runs.c.run_id == run.run_id).values(site="clinic-a", model_id=MODEL))
    assert all(warning in anna.get(path).text for path in ("/runs/night", "/runs/night/progress", IMAGE))
    record_verdict(engine, SiteVerdict("clinic-a", MODEL, run.run_id, [], 100, {}, accepted=True), run.name)
    assert all(warning not in anna.get(path).text for path in ("/runs/night", IMAGE))


def test_every_response_has_strict_security_headers(address: str, visit: Callable[[str], ConsoleClient]) -> None:
    anna = visit("anna")
    for path in ("/runs", "/runs/night", IMAGE, "/runs/none", "/sign-in", "/static/console.js", f"{IMAGE}/photograph"):
        headers = anna.get(path).headers
        assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == ("no-cache" if path.startswith("/static") else "no-store")
        assert "server" not in headers
    for path in ("/runs", "/runs/night", IMAGE, "/sign-in"):
        page = anna.get(path).text
        assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=|javascript:|https?://(?!127)", page), path


def test_cookie_is_hidden_from_scripts_and_other_sites(address: str) -> None:
    with ConsoleClient(address) as visitor:
        page = visitor.get("/sign-in")
        response = visitor.client.post(
            "/sign-in",
            data={"form_token": form_token_of(page), "name": "anna", "password": PASSWORD},
            follow_redirects=False,
        )
        given = [cookie for cookie in response.headers.get_list("set-cookie") if cookie.startswith("fundus=")]
        assert len(given) == 1
        assert {"httponly", "samesite=lax", "path=/"} <= {part.strip().lower() for part in given[0].split(";")[1:]}


def test_cookies_are_secure_behind_tls(engine: Engine, run: Run, make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(console_url="https://grading.example.org", decode_processes=1)
    with serve_console(settings, engine) as address, httpx.Client(base_url=address) as client:
        headers = {"host": "grading.example.org"}
        page = client.get("/sign-in", headers=headers)
        assert "max-age" in page.headers["strict-transport-security"]
        form_cookie = page.headers["set-cookie"].partition(";")[0]
        response = client.post(
            "/sign-in",
            data={"form_token": form_token_of(page), "name": "anna", "password": PASSWORD},
            headers=headers | {"cookie": form_cookie, "origin": "https://grading.example.org"},
        )
        (cookie,) = [one for one in response.headers.get_list("set-cookie") if one.startswith("__Host-fundus=")]
        assert "Secure" in cookie
        assert "Domain" not in cookie
        assert client.get("/runs").status_code == 421
        assert client.get("/healthz").status_code == 200


def test_five_wrong_passwords_block_the_account(address: str, engine: Engine) -> None:
    with ConsoleClient(address) as stranger:
        for _ in range(5):
            response = stranger.sign_in("anna", "wrong")
            assert (response.status_code, "Incorrect name or password." in response.text) == (401, True)
        response = stranger.sign_in("anna", PASSWORD)
        assert response.status_code == 429
        assert "try again in 15 minutes" in response.text
        assert stranger.sign_in("nobody", "wrong").status_code == 401
    logged = [
        entry["details"]["accepted"]
        for entry in read_audit_log(engine, run=None, last=99)
        if entry["action"] == "sign_in"
    ]
    assert logged == [False] * 6


@pytest.mark.parametrize(
    ("wanted", "led_to"),
    [
        (IMAGE, IMAGE),
        ("/runs/night?grade=2", "/runs/night?grade=2"),
        ("https://evil.example/", "/runs"),
        ("//evil.example/", "/runs"),
        ("/\\evil.example", "/runs"),
        ("/\tevil", "/runs"),
        ("/sign-out", "/runs"),
        ("javascript:alert(1)", "/runs"),
    ],
)
def test_sign_in_redirects_to_no_other_site(address: str, wanted: str, led_to: str) -> None:
    with ConsoleClient(address) as visitor:
        page = visitor.client.get("/sign-in", params={"next": wanted})
        response = visitor.client.post(
            "/sign-in",
            data={"form_token": form_token_of(page), "name": "anna", "password": PASSWORD, "next": wanted},
            follow_redirects=False,
        )
        assert response.headers["location"] == led_to


@pytest.mark.parametrize("planted", ["an attacker's own session", "a made-up secret"])
def test_session_chosen_by_an_attacker_is_never_signed_in(
    planted: str, address: str, visit: Callable[[str], ConsoleClient]
) -> None:
    attacker = visit("vera")
    fixed = attacker.client.cookies["fundus"] if planted.startswith("an attacker") else "a" * 43
    with ConsoleClient(address) as victim:
        page = victim.get("/sign-in")
        cookies = f"fundus={fixed}; fundus-form={victim.client.cookies['fundus-form']}"
        victim.client.cookies.clear()
        response = victim.client.post(
            "/sign-in",
            data={"form_token": form_token_of(page), "name": "anna", "password": PASSWORD},
            headers={"cookie": cookies},
            follow_redirects=False,
        )
        (given,) = re.findall(r"fundus=([\w-]+);", "\n".join(response.headers.get_list("set-cookie")))
        assert given != fixed
    with httpx.Client(base_url=address) as thief:
        shown = thief.get("/runs", headers={"cookie": f"fundus={fixed}"}, follow_redirects=True).text
        assert "anna" not in shown
        assert "anna" in thief.get("/runs", headers={"cookie": f"fundus={given}"}).text


def test_cookie_is_invalid_after_sign_out(visit: Callable[[str], ConsoleClient], address: str) -> None:
    anna = visit("anna")
    cookie = anna.client.cookies["fundus"]
    response = anna.post("/sign-out", anna.get("/runs"))
    assert "<h1>Sign in</h1>" in response.text
    with ConsoleClient(address) as thief:
        thief.client.cookies.set("fundus", cookie)
        assert "<h1>Sign in</h1>" in thief.get("/runs").text


@pytest.mark.parametrize(
    "attack",
    [
        "no token",
        "another session's token",
        "sign-in form's token",
        "other origin",
        "null origin",
        "cross site",
        "json",
        "too large",
    ],
)
def test_forged_form_changes_nothing(attack: str, visit: Callable[[str], ConsoleClient], engine: Engine) -> None:
    anna, ben = visit("anna"), visit("ben")
    page = anna.get(IMAGE)
    shown, last_seen = re.findall(r'name="(?:shown|last_seen)" value="([^"]*)"', page.text)
    fields = {"grade": "0", "reason": "x", "shown": shown, "last_seen": last_seen, "form_token": form_token_of(page)}
    headers: dict[str, str] = {}
    body: dict[str, Any] = {"data": fields}
    status = 403
    if attack == "no token":
        del fields["form_token"]
    elif attack == "another session's token":
        fields["form_token"] = form_token_of(ben.get("/runs"))
    elif attack == "sign-in form's token":
        fields["form_token"] = form_token_of(anna.get("/sign-in"))
    elif attack == "other origin":
        headers["origin"] = "http://evil.example"
    elif attack == "null origin":
        headers["origin"] = "null"
    elif attack == "cross site":
        headers["sec-fetch-site"] = "cross-site"
    elif attack == "json":
        body, status = {"json": fields}, 415
    else:
        fields["reason"], status = "x" * 70_000, 413
    response = anna.client.post(f"{IMAGE}/decision", headers=headers, follow_redirects=False, **body)
    assert response.status_code == status
    with read_transaction(engine) as connection:
        assert connection.execute(select(decisions)).all() == []


def test_forged_sign_in_is_rejected(address: str) -> None:
    fields = {"name": "anna", "password": PASSWORD}
    with ConsoleClient(address) as visitor:
        assert visitor.client.post("/sign-in", data=fields).status_code == 403
        page = visitor.get("/sign-in")
        good = fields | {"form_token": form_token_of(page)}
        assert visitor.client.post("/sign-in", data=good, headers={"origin": "http://evil.example"}).status_code == 403
        with ConsoleClient(address) as other:
            assert other.client.post("/sign-in", data=good).status_code == 403


def test_roles_permit_only_their_actions(visit: Callable[[str], ConsoleClient], engine: Engine) -> None:
    for name in ("vera", "olga"):
        visitor = visit(name)
        page = visitor.get(IMAGE)
        assert 'id="decide"' not in page.text
        assert visitor.post(f"{IMAGE}/decision", page, grade="0", reason="x").status_code == 403
        assert visitor.post("/runs/night/next", page).status_code == 403
    for name, status in (("vera", 403), ("anna", 403), ("olga", 200)):
        visitor = visit(name)
        assert visitor.post("/runs/night/readers", visitor.get("/runs/night"), readers="2").status_code == status
    assert "Each image is reviewed by two readers" in visit("vera").get("/runs/night").text
    assert visit("olga").post("/runs/night/readers", visit("olga").get("/runs"), readers="2").status_code == 403


def test_grader_reviews_the_whole_queue(
    visit: Callable[[str], ConsoleClient], engine: Engine, run: Run, tmp_path: Path
) -> None:
    anna = visit("anna")
    page = anna.post("/runs/night/next", anna.get("/runs/night"))
    order = []
    while "No images left" not in page.text:
        path = page.url.path
        order.append(path[-5:])
        shown, last_seen = re.findall(r'name="(?:shown|last_seen)" value="([^"]*)"', page.text)
        page = anna.post(
            f"{path}/decision", page, grade="3", reason="drusen", shown=shown, last_seen=last_seen, then="next"
        )
        assert page.status_code == 200
    assert order == ["00003", "00000", "00002", "00004", "00001"]
    assert "<b>5</b> reviewed" in anna.get("/runs/night").text
    export_run(engine, Storage(Settings()).overlays, run, ExportFormat.CSV, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().count(",read,3,anna,") == 5
    assert "anna=3" in (tmp_path / "out.csv").read_text()
    logged = [entry for entry in read_audit_log(engine, run="night", last=99) if entry["action"] == "decide"]
    assert len(logged) == 5


def test_rejected_decision_keeps_the_input(visit: Callable[[str], ConsoleClient]) -> None:
    anna, ben = visit("anna"), visit("ben")
    seen = ben.get(IMAGE)
    assert anna.decide(IMAGE, "3", "microaneurysms").status_code == 200
    response = ben.decide(IMAGE, "4", "new vessels at the disc", page=seen)
    assert response.status_code == 409
    assert "anna has reviewed this image since you opened it" in response.text
    assert "new vessels at the disc</textarea>" in response.text
    assert re.search(r'value="4" required checked', response.text)
    assert ben.decide(IMAGE, "4", "new vessels at the disc", page=response).status_code == 200
    assert ben.decide(IMAGE, "", "").status_code == 422
    assert "a reason is required" in ben.decide(IMAGE, "1").text


def test_two_simultaneous_readers_lose_nothing(visit: Callable[[str], ConsoleClient], engine: Engine) -> None:
    olga = visit("olga")
    olga.post("/runs/night/readers", olga.get("/runs/night"), readers="2")
    readers = {"anna": "3", "ben": "1"}
    visitors = {name: visit(name) for name in readers}
    pages = {name: visitor.get(IMAGE) for name, visitor in visitors.items()}
    with ThreadPoolExecutor(2) as threads:
        responses = list(threads.map(lambda n: visitors[n].decide(IMAGE, readers[n], "seen", page=pages[n]), readers))
    assert [response.status_code for response in responses] == [200, 200]
    with read_transaction(engine) as connection:
        found = {row.reader: str(row.grade) for row in connection.execute(select(decisions))}
    assert found == readers
    cleo = visit("cleo")
    page = cleo.get(IMAGE)
    assert "Your arbitration" in page.text
    assert cleo.decide(IMAGE, "2", "between", page=page).status_code == 200
    assert "(arbitration)" in visit("vera").get(IMAGE).text


@pytest.mark.parametrize(("grades", "state"), [((0,), "1 of 2 reviews"), ((0, 2), "readers disagree")])
def test_image_that_is_not_decided_awaits_reading_on_every_page(
    grades: tuple[int, ...], state: str, visit: Callable[[str], ConsoleClient], engine: Engine
) -> None:
    olga, vera = visit("olga"), visit("vera")
    olga.post("/runs/night/readers", olga.get("/runs/night"), readers="2")
    later = make_run(engine, "later", [ImageReference("file:///00001.jpg", "00001")])
    grade(engine, later, "00001", 0)
    awaiting = '<span class="badge attention">Awaiting reading (model: 0 No DR)</span>'
    image = "/runs/night/images/00001"
    assert awaiting not in vera.get("/runs/night").text
    for name, given in zip(("anna", "ben"), grades, strict=False):
        assert visit(name).decide(image, str(given), "why").status_code == 200
    row = re.search(
        r"<th scope=\"row\"><a href=\"/runs/night/images/00001\".*?</tr>", vera.get("/runs/night").text, re.DOTALL
    )
    assert row is not None
    assert awaiting in row[0]
    assert state in row[0]
    assert "badge grade-" not in row[0]
    result = re.search(r'aria-labelledby="model">.*?</section>', vera.get(image).text, re.DOTALL)
    assert result is not None
    assert awaiting in result[0]
    assert "badge grade-" not in result[0]
    others = re.search(r">Other runs</h2>.*?</ul>", vera.get("/runs/later/images/00001").text, re.DOTALL)
    assert others is not None
    assert awaiting in others[0]


def test_replaced_photograph_cannot_be_reviewed(
    visit: Callable[[str], ConsoleClient], engine: Engine, inbox: Path
) -> None:
    photograph = inbox / "eye.jpg"
    graded = (SAMPLES / "IDRiD_138.jpg").read_bytes()
    photograph.write_bytes(graded)
    sha256 = hashlib.sha256(graded).hexdigest()
    with write_transaction(engine) as connection:
        connection.execute(update(images).where(images.c.image_id == "00000").values(uri=photograph.as_uri()))
        connection.execute(update(gradings).where(gradings.c.image_id == "00000").values(content_sha256=sha256))
    anna = visit("anna")
    opened = anna.get(IMAGE)
    assert anna.get(f"{IMAGE}/photograph").status_code == 200

    photograph.write_bytes((SAMPLES / "IDRiD_020.jpg").read_bytes())
    page = anna.get(IMAGE)
    assert "This is no longer the photograph that was graded" in page.text
    assert 'id="decide"' not in page.text
    picture = anna.get(f"{IMAGE}/photograph")
    assert picture.status_code == 422
    assert "<h1>This is no longer the photograph that was graded.</h1>" in picture.text
    for form in (opened, page):
        refused = anna.decide(IMAGE, "2", "why", page=form)
        assert refused.status_code == 409
        assert "Not saved: this is no longer the photograph that was graded." in refused.text
    with read_transaction(engine) as connection:
        assert connection.execute(select(decisions)).all() == []

    # A reader to whom the queue gives the image can go on to the next one.
    given = anna.post("/runs/night/next", anna.get("/runs/night"), skip="00003")
    assert given.url.path == IMAGE
    assert anna.post("/runs/night/next", given, skip="00000").url.path != IMAGE

    photograph.write_bytes(graded)
    assert anna.decide(IMAGE, "2", page=opened).status_code == 200
    with read_transaction(engine) as connection:
        assert connection.scalars(select(decisions.c.seen_sha256)).all() == [sha256]


def test_photograph_without_a_recorded_hash_must_not_change_while_it_is_reviewed(
    visit: Callable[[str], ConsoleClient], engine: Engine, inbox: Path
) -> None:
    photograph = inbox / "eye.jpg"
    photograph.write_bytes((SAMPLES / "IDRiD_138.jpg").read_bytes())
    with write_transaction(engine) as connection:
        connection.execute(update(images).where(images.c.image_id == "00000").values(uri=photograph.as_uri()))
    anna = visit("anna")
    opened = anna.get(IMAGE)
    replaced = (SAMPLES / "IDRiD_020.jpg").read_bytes()
    photograph.write_bytes(replaced)
    refused = anna.decide(IMAGE, "2", page=opened)
    assert refused.status_code == 409
    assert "the photograph has changed since you opened it" in refused.text
    assert anna.decide(IMAGE, "2", page=refused).status_code == 200
    with read_transaction(engine) as connection:
        assert connection.scalars(select(decisions.c.seen_sha256)).all() == [hashlib.sha256(replaced).hexdigest()]


def test_decision_without_a_photograph_records_none(visit: Callable[[str], ConsoleClient], engine: Engine) -> None:
    assert visit("anna").decide(IMAGE, "2").status_code == 200
    with read_transaction(engine) as connection:
        assert connection.scalars(select(decisions.c.seen_sha256)).all() == [None]


def test_other_run_is_shown_with_its_final_grade(visit: Callable[[str], ConsoleClient], engine: Engine) -> None:
    later = make_run(engine, "later", [ImageReference("file:///00001.jpg", "00001")])
    grade(engine, later, "00001", 0)
    anna = visit("anna")
    assert anna.decide("/runs/night/images/00001", "3", "why").status_code == 200
    others = re.search(r">Other runs</h2>.*?</ul>", anna.get("/runs/later/images/00001").text, re.DOTALL)
    assert others is not None
    assert '<span class="badge grade-3">' in others[0]
    assert '<span class="badge grade-0">' not in others[0]


def test_queue_never_serves_an_image_to_two_readers(visit: Callable[[str], ConsoleClient]) -> None:
    visitors = [visit(name) for name in ("anna", "ben", "cleo")]
    pages = [visitor.get("/runs/night") for visitor in visitors]
    with ThreadPoolExecutor(3) as threads:
        served = list(
            threads.map(
                lambda pair: pair[0].post("/runs/night/next", pair[1]).url.path, zip(visitors, pages, strict=True)
            )
        )
    assert sorted(served) == [f"/runs/night/images/{name}" for name in ("00000", "00002", "00003")]
    held = visitors[0].get(served[1]).text
    assert "is reviewing this image" in held
    assert 'id="decide"' not in held
    page = visitors[1].get(served[1])
    assert visitors[1].post(f"{served[1]}/lease", page).status_code == 204
    assert visitors[0].post(f"{served[1]}/lease", visitors[0].get("/runs/night")).status_code == 409


def test_untrusted_text_is_escaped(visit: Callable[[str], ConsoleClient], engine: Engine) -> None:
    with write_transaction(engine) as connection:
        connection.execute(
            update(images).where(images.c.image_id == "00000").values(uri=f"file:///x/{HOSTILE}", patient_id=HOSTILE)
        )
        connection.execute(
            update(gradings).where(gradings.c.image_id == "00002").values(error_code=HOSTILE[:60], error_detail=HOSTILE)
        )
    anna = visit("anna")
    anna.decide(IMAGE, "3", HOSTILE)
    for path in ("/runs/night", IMAGE, "/runs/night/images/00002"):
        page = anna.get(path).text
        assert "&lt;script&gt;alert(1)" in page, path
        assert "<script>alert" not in page
        assert "<img src=x" not in page
    for path in (
        f"/runs/{HOSTILE}",
        f"/runs/night?grade={HOSTILE}",
        f"/sign-in?next={HOSTILE}",
        f"/runs/night/images/{HOSTILE}",
    ):
        assert "<script>alert" not in anna.get(path).text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/runs/none", 404),
        ("/runs/night/images/none", 404),
        ("/runs/none/images/00000", 404),
        ("/runs/night/images/..%2f..%2fetc", 404),
        ("/runs/night?grade=7", 400),
        ("/runs/night?eye=third", 400),
        ("/nothing", 404),
        (f"{IMAGE}/lease", 405),
    ],
)
def test_unknown_address_gets_an_error_page(path: str, status: int, visit: Callable[[str], ConsoleClient]) -> None:
    response = visit("anna").get(path)
    assert response.status_code == status
    assert "<h1>" in response.text
    assert "Traceback" not in response.text


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"explained_outputs": [1, 2]}, "referable DR, or for any DR below grade 2"),
        ({"explained_outputs": [2, 9]}, "the model&#39;s grade"),
        ({}, "the model&#39;s grade"),
    ],
)
def test_page_explains_the_colours_of_the_overlay(
    document: dict[str, Any], words: str, visit: Callable[[str], ConsoleClient], engine: Engine
) -> None:
    with write_transaction(engine) as connection:
        connection.execute(update(models).values(document=document))
    assert f"Areas that most influenced this result: evidence for {words}." in visit("anna").get(IMAGE).text


def test_photograph_and_overlay_are_served_by_the_console(
    visit: Callable[[str], ConsoleClient], engine: Engine, settings: Settings
) -> None:
    anna = visit("anna")
    png = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    with write_transaction(engine) as connection:
        uri = (SAMPLES / "IDRiD_138.jpg").as_uri()
        connection.execute(update(images).where(images.c.image_id == "00000").values(uri=uri))
        key = connection.execute(select(gradings.c.overlay_key).where(gradings.c.image_id == "00000")).scalar_one()
    assert anna.get(f"{IMAGE}/overlay").status_code == 404
    Storage(settings).overlays.put(key, png, content_type="image/png", metadata={})
    overlay, photograph = anna.get(f"{IMAGE}/overlay"), anna.get(f"{IMAGE}/photograph")
    assert (overlay.status_code, overlay.headers["content-type"], overlay.content) == (200, "image/png", png)
    assert (photograph.status_code, photograph.headers["content-type"]) == (200, "image/jpeg")
    assert photograph.content[:3] == b"\xff\xd8\xff"
    # This image is outside the source roots, which apply to the console as to a worker.
    refused = anna.get("/runs/night/images/00001/photograph")
    assert refused.status_code == 422
    assert "reference_not_allowed" in refused.text
    assert anna.get("/runs/night/images/00002/overlay").status_code == 404
    viewed = [(view["viewer"], view["image_id"], view["picture"]) for view in read_views(engine, run="night", last=9)]
    assert viewed == [("anna", "00000", "overlay"), ("anna", "00000", "photograph")]


def test_map_is_drawn_over_the_field_by_the_scale_of_its_model(
    visit: Callable[[str], ConsoleClient], engine: Engine
) -> None:
    anna = visit("anna")
    saliency = np.zeros((8, 8), np.float16)
    saliency[3:5, 3:5] = 1
    with write_transaction(engine) as connection:
        uri = (SAMPLES / "IDRiD_138.jpg").as_uri()
        connection.execute(update(images).where(images.c.image_id.in_(("00000", "00001"))).values(uri=uri))
        change = update(gradings).values(saliency=saliency.tobytes(), evidence_scale=4.0)
        connection.execute(change.where(gradings.c.image_id == "00000").values(evidence=2.8))
        connection.execute(change.where(gradings.c.image_id == "00001").values(evidence=0.4))
    tint, lines = anna.get(f"{IMAGE}/map"), anna.get(f"{IMAGE}/contours")
    assert (tint.headers["content-type"], lines.headers["content-type"]) == ("image/webp", "image/svg+xml")
    alpha = cv2.imdecode(np.frombuffer(tint.content, np.uint8), cv2.IMREAD_UNCHANGED)[..., 3]
    assert alpha.shape == (48, 48)
    # At 70 % of the scale, the opacity is 0.6 of the strongest one, and there is a line at 50 % but none at 80 %.
    assert alpha.max() == pytest.approx(255 * 0.35 * 0.6, abs=4)
    assert (alpha[:12].any(), alpha[21:27, 21:27].min() > 0) == (False, True)
    assert lines.text.count("M") == 2  # one line, with its casing
    assert "4 logits, the same in all images" in anna.get(IMAGE).text
    # At 10 % of the scale, a healthy eye looks like its photograph.
    faint = anna.get("/runs/night/images/00001/map")
    assert not cv2.imdecode(np.frombuffer(faint.content, np.uint8), cv2.IMREAD_UNCHANGED)[..., 3].any()
    assert "<path" not in anna.get("/runs/night/images/00001/contours").text
    assert "No area of this image reaches 25 %" in anna.get("/runs/night/images/00001").text
    assert anna.get("/runs/night/images/00002/map").status_code == 404
    scale = cv2.imdecode(np.frombuffer(anna.get("/map-scale.png").content, np.uint8), cv2.IMREAD_COLOR)
    assert scale.shape == (1, 240, 3)


def test_answer_to_a_form_can_be_reloaded(visit: Callable[[str], ConsoleClient]) -> None:
    anna = visit("anna")
    for form in ("decision", "undo"):
        reloaded = anna.get(f"{IMAGE}/{form}")
        assert (reloaded.status_code, reloaded.url.path) == (200, IMAGE)


def test_run_without_images_offers_no_review(visit: Callable[[str], ConsoleClient], engine: Engine) -> None:
    make_run(engine, "quiet", [])
    shown = visit("anna").get("/runs/quiet").text
    assert "This run has no images." in shown
    for needless in ("Review next image", 'class="filters"', "0 images in this run"):
        assert needless not in shown
    assert "Review next image" in visit("anna").get("/runs/night").text


def test_page_polls_only_a_run_in_progress(visit: Callable[[str], ConsoleClient], engine: Engine) -> None:
    anna = visit("anna")
    response = anna.get("/runs/night/progress")
    assert (response.status_code, "every 2s" in response.text) == (200, True)
    with write_transaction(engine) as connection:
        connection.exec_driver_sql("UPDATE runs SET state = 'finished', finished_at = created_at")
    response = anna.get("/runs/night/progress")
    assert (response.status_code, "every 2s" in response.text) == (286, False)


def test_database_error_leaks_no_detail(
    visit: Callable[[str], ConsoleClient], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = visit("anna")
    with write_transaction(engine) as connection:
        connection.exec_driver_sql("ALTER TABLE reading_rules RENAME TO hidden")
    response = anna.get("/runs/night")
    assert response.status_code in (500, 503)
    assert "hidden" not in response.text
    assert "SELECT" not in response.text
    assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    with write_transaction(engine) as connection:
        connection.exec_driver_sql("ALTER TABLE hidden RENAME TO reading_rules")
    assert anna.get("/runs/night").status_code == 200


@pytest.fixture
def console_login(postgres_url: str) -> Iterator[str]:
    """Return the URL of a migrated ledger for a login with the role `fundus_console` only."""
    with closing(psycopg.connect(postgres_url, autocommit=True)) as connection:
        connection.execute(ROLES.read_bytes())
        connection.execute("CREATE ROLE only_console LOGIN PASSWORD 'x' IN ROLE fundus_console")
    parts = urlsplit(postgres_url)
    yield f"postgresql://only_console:x@127.0.0.1:{parts.port}{parts.path}"
    with closing(psycopg.connect(postgres_url, autocommit=True)) as connection:
        connection.execute("DROP OWNED BY only_console; DROP ROLE only_console")


def test_console_role_suffices_for_the_console(
    postgres_url: str, console_login: str, make_settings: Callable[..., Settings]
) -> None:
    owner = connect(parse_settings(database_url=postgres_url))
    add_users(owner, **PEOPLE)
    graded_run(owner, [2, 0, None, 4, 1])
    settings = make_settings(database_url=console_login, decode_processes=1)
    engine = connect(settings, pool_size=20)
    require_compatible(engine)
    with serve_console(settings, engine) as address, ConsoleClient(address) as anna, ConsoleClient(address) as olga:
        assert anna.sign_in("anna", "wrong").status_code == 401
        assert anna.sign_in("anna", PASSWORD).status_code == 200
        assert olga.sign_in("olga", PASSWORD).status_code == 200
        assert olga.post("/runs/night/readers", olga.get("/runs/night"), readers="2").status_code == 200
        page = anna.post("/runs/night/next", anna.get("/runs/night?unsure=yes"))
        assert page.url.path == "/runs/night/images/00003"
        assert anna.post(f"{page.url.path}/lease", page).status_code == 204
        saved = anna.decide(page.url.path, "3", "why")
        assert saved.url.query == b"saved=1"
        undone = anna.post(f"{page.url.path}/undo", saved, decision="1")
        assert (undone.status_code, undone.url.query) == (200, b"undone=1")
        assert "Undone: 3 Severe NPDR" in anna.get(str(undone.url)).text
        assert anna.decide(page.url.path, "2", "why").status_code == 200
        assert anna.get("/runs/night/progress").status_code == 200
        assert anna.post("/sign-out", anna.get("/runs")).status_code == 200
    with read_transaction(owner) as connection:
        assert connection.execute(select(decisions.c.reader)).scalars().all() == ["anna", "anna"]
    logged = [entry["action"] for entry in read_audit_log(owner, run=None, last=99)]
    assert logged == [
        "enqueue", "seal", "sign_in", "sign_in", "sign_in", "set_readers", "decide", "withdraw", "decide", "sign_out"
    ]  # fmt: skip
    engine.dispose()
    owner.dispose()


def test_paging_reaches_every_run_in_both_directions(
    address: str, visit: Callable[[str], ConsoleClient], engine: Engine
) -> None:
    for number in range(44):
        make_run(engine, f"more-{number:02d}", [])
    vera = visit("vera")

    def page(path: str) -> tuple[list[str], dict[str, str]]:
        text = vera.get(path).text
        return re.findall(r'<a href="/runs/([^"]+)" class="row-link"', text), dict(
            re.findall(r'<a rel="(prev|next)" href="([^"]+)"', text)
        )

    expected = [f"more-{number:02d}" for number in reversed(range(44))] + ["night"]
    first, links = page("/runs")
    assert (first, list(links)) == (expected[:20], ["next"])
    second, links = page(links["next"])
    assert (second, list(links)) == (expected[20:40], ["prev", "next"])
    back = links["prev"]
    third, links = page(links["next"])
    assert (third, list(links)) == (expected[40:], ["prev"])
    assert page(links["prev"])[0] == expected[20:40]
    assert page(back) == (first, {"next": page("/runs")[1]["next"]})
    assert "Latest runs" in vera.get("/runs?before=1").text
    for wrong in ("before=x", "after=-1", "before=" + "9" * 30, "after=%C2%B2"):
        assert vera.get(f"/runs?{wrong}").status_code == 400
