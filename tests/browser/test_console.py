"""The console in a real browser: content, keyboard use, concurrency, and attacks from other sites."""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from tests.browser.console_site import (
    THRESHOLDS,
    Site,
    add_earlier_run,
    insert_hostile_text,
    move_photograph,
    require_two_readers,
    serve_site,
)
from tests.browser.page_checks import PageChecks
from tests.unit.worker.console.accounts_and_runs import PASSWORD

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

WIDTHS = (320, 768, 1920)
IMAGES = 120
GRADES: list[int | None] = [(number * 7) % 5 if number % 11 else None for number in range(IMAGES)]


@dataclass
class Visit(PageChecks):
    """One window. `complaints` are errors of the console and of scripts, `foreign` are requests to other sites."""

    page: "Page"
    address: str
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def record_message(self, message: "ConsoleMessage") -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def go(self, path: str) -> None:
        self.page.goto(self.address + path)

    def sign_in(self, name: str) -> None:
        self.go("/sign-in")
        self.page.fill("input[name=name]", name)
        self.page.fill("input[name=password]", PASSWORD)
        self.page.press("input[name=password]", "Enter")
        self.page.wait_for_url("**/runs")

    def pixels(self, selector: str) -> "np.ndarray[Any, Any]":
        picture = cv2.imdecode(np.frombuffer(self.page.locator(selector).screenshot(), np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        return picture


Open = Callable[..., Visit]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A shared site for tests that do not change it."""
    with serve_site(tmp_path_factory.mktemp("site"), GRADES) as site:
        yield site


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Site]:
    """A new site for tests that record decisions: grades 4, 2, ungradable, 0."""
    with serve_site(tmp_path, [4, 2, None, 0]) as site:
        yield site


@pytest.fixture
def visit(browser: "Browser") -> Iterator[Open]:
    contexts = []

    def enter(site: Site, name: str | None = None, *, width: int = 1280, dark: bool = False) -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        contexts.append(context)
        context.set_default_timeout(30_000)
        visit = Visit(context.new_page(), site.address)
        visit.page.on("console", visit.record_message)
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        visit.page.on(
            "request",
            lambda request: None if request.url.startswith(site.address) else visit.foreign.append(request.url),
        )
        if name is not None:
            visit.sign_in(name)
        return visit

    yield enter
    for context in contexts:
        context.close()


def ids(visit: Visit) -> list[str]:
    """Return the ids of the images in the list."""
    links = visit.page.locator("#images .row-link").evaluate_all("links => links.map(link => link.pathname)")
    return [link.rpartition("/")[2] for link in links]


@pytest.mark.parametrize("dark", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["light", "dark"])
def test_every_page_fits_every_width_and_is_accessible(site: Site, visit: Open, *, dark: bool) -> None:
    window = visit(site, "anna", dark=dark)
    for path in ("/runs", "/runs/night", "/runs/night?grade=2", "/runs/night/images/00002", "/runs/night/images/00000"):
        window.go(path)
        for width in WIDTHS:
            window.page.set_viewport_size({"width": width, "height": 800})
            assert window.overflow_px() <= 0, (path, width)
        assert window.violations() == [], path
    window.page.click("#show-keys")
    assert window.violations() == []
    with_form = visit(site, dark=dark, width=320)
    with_form.go("/sign-in")
    assert with_form.violations() == []
    assert with_form.overflow_px() <= 0
    assert window.complaints + with_form.complaints == []
    assert window.foreign + with_form.foreign == []


def test_list_matches_sql_for_each_filter_and_page(site: Site, visit: Open) -> None:
    window = visit(site, "vera")
    window.go("/runs/night")
    for choose, condition in (
        (lambda: window.page.select_option("select[name=grade]", "3"), "g.grade = 3"),
        (lambda: window.page.select_option("select[name=eye]", "left"), "g.grade = 3 AND i.eye = 'left'"),
        (lambda: window.page.select_option("select[name=grade]", ""), "i.eye = 'left'"),
        (lambda: window.page.select_option("select[name=eye]", ""), "1 = 1"),
        (lambda: window.page.select_option("select[name=status]", "ungradable"), "g.status = 'ungradable'"),
        (lambda: window.page.select_option("select[name=status]", ""), "1 = 1"),
        (lambda: window.page.check("input[name=disagreement]"), "i.reference_grade <> g.grade"),
    ):
        with window.page.expect_response(lambda answer: "/runs/night?" in answer.url):
            choose()
        window.page.wait_for_selector("body:not(:has(.htmx-request, .htmx-swapping, .htmx-settling))")
        expected = site.query(
            "SELECT g.image_id FROM gradings g JOIN images i ON i.image_id = g.image_id"
            f" WHERE {condition} ORDER BY g.image_id"
        )
        shown = ids(window)
        while window.page.locator("#images a[rel=next]").count():
            with window.page.expect_navigation():
                window.page.click("#images a[rel=next]")
            shown += ids(window)
        assert shown == [image_id for (image_id,) in expected], condition
        while window.page.locator("#images a[rel=prev]").count():
            with window.page.expect_navigation():
                window.page.click("#images a[rel=prev]")
        assert ids(window) == shown[:50]
    assert "disagreement=yes" in window.page.url
    assert window.complaints == []


def test_each_model_score_is_shown_with_its_threshold(site: Site, visit: Open) -> None:
    window = visit(site, "vera")
    window.go("/runs/night/images/00001")
    thresholds = [f"{100 * threshold:.0f} %" for threshold in THRESHOLDS[1:]]
    rows = window.page.locator(".chances tbody tr")
    assert [rows.nth(place).locator(".number").last.inner_text() for place in range(4)] == thresholds
    bar, tick = (rows.first.locator(name).bounding_box() for name in (".all", ".tick"))
    assert bar is not None
    assert tick is not None
    place = (tick["x"] + tick["width"] / 2 - bar["x"]) / bar["width"]
    assert f"{100 * place:.0f} %" == thresholds[0]


def open_photograph(window: Visit, path: str = "/runs/night/images/00001") -> None:
    window.go(path)
    window.page.wait_for_function("() => document.querySelector('#pane').dataset.scale")
    window.page.wait_for_function("() => [...document.querySelectorAll('#pane img')].every((one) => one.complete)")


def scale(window: Visit) -> float:
    return float(window.page.get_attribute("#pane", "data-scale") or "nan")


def place_under(window: Visit, x: float, y: float) -> tuple[float, float]:
    """Return the place in the photograph, as shares of its side, under a point of the window."""
    box = window.page.locator("#pane .stage").bounding_box()
    assert box is not None
    return (x - box["x"]) / box["width"], (y - box["y"]) / box["height"]


def difference(picture: "np.ndarray[Any, Any]", other: "np.ndarray[Any, Any]") -> float:
    """Return the mean absolute difference of two pictures, in levels of 255."""
    return float(np.abs(picture.astype(int) - other.astype(int)).mean())


def test_map_is_faded_and_hidden(site: Site, visit: Open) -> None:
    window = visit(site, "vera")
    open_photograph(window)
    window.page.wait_for_selector("#pane .over path.line", state="attached")
    window.page.wait_for_function("() => document.querySelector('.over .tint').naturalWidth > 0")
    photograph = window.pixels("#pane")
    assert photograph.std() > 10
    assert "each image's own maximum" in window.page.inner_text(".legend")
    window.page.locator("#opacity").fill("50")
    half = window.pixels("#pane")
    window.page.locator("#opacity").fill("100")
    overlay = window.pixels("#pane")
    assert 0.3 < difference(photograph, half) < difference(photograph, overlay)
    assert (overlay[4:40, 4:40] == photograph[4:40, 4:40]).all()  # nothing beyond the field
    window.page.locator("#opacity").fill("50")
    window.page.keyboard.press("o")
    # The browser may draw a repeated picture with other rounding.
    assert difference(window.pixels("#pane"), photograph) < 0.05
    window.page.keyboard.press("m")
    assert difference(window.pixels("#pane"), half) < 0.05
    assert window.complaints == []


def test_photograph_is_zoomed_at_the_pointer_and_moved_within_its_pane(site: Site, visit: Open) -> None:
    window = visit(site, "vera")
    open_photograph(window)
    pane = window.page.locator("#pane").bounding_box()
    assert pane is not None
    whole = scale(window)
    assert whole == pytest.approx(min(pane["width"], pane["height"]) / 618, rel=0.02)
    x, y = pane["x"] + 0.6 * pane["width"], pane["y"] + 0.4 * pane["height"]
    before = place_under(window, x, y)
    window.page.mouse.move(x, y)
    window.page.mouse.wheel(0, -400)
    window.page.wait_for_function(f"() => document.querySelector('#pane').dataset.scale > {whole * 1.9}")
    assert place_under(window, x, y) == pytest.approx(before, abs=0.005)
    window.page.mouse.down()
    window.page.mouse.move(x - 40, y + 30)
    window.page.mouse.up()
    assert place_under(window, x - 40, y + 30) == pytest.approx(before, abs=0.005)
    # However far it is dragged, the photograph fills the pane.
    window.page.mouse.move(x, y)
    window.page.mouse.down()
    window.page.mouse.move(x + 5000, y + 5000)
    window.page.mouse.up()
    assert place_under(window, pane["x"], pane["y"]) == pytest.approx((0, 0), abs=0.005)
    window.page.keyboard.press("1")
    assert scale(window) == 1
    assert window.page.inner_text("#pane .readout") == "100 %"
    window.page.focus("#pane")
    window.page.keyboard.press("z")
    window.page.keyboard.press("z")
    left = place_under(window, x, y)[0]
    window.page.keyboard.press("ArrowRight")
    assert place_under(window, x, y)[0] > left
    window.page.keyboard.press("z")
    assert scale(window) == pytest.approx(whole)
    assert window.complaints == []


def test_photograph_is_zoomed_by_two_fingers(site: Site, browser: "Browser") -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    window = Visit(context.new_page(), site.address)
    window.sign_in("vera")
    open_photograph(window)
    pane = window.page.locator("#pane").bounding_box()
    assert pane is not None
    x, y, whole = pane["x"] + pane["width"] / 2, pane["y"] + pane["height"] / 2, scale(window)
    touch = context.new_cdp_session(window.page)

    def put(kind: str, *distances: float) -> None:
        points = [{"x": x + distance, "y": y, "id": number} for number, distance in enumerate(distances)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    put("touchStart", -20, 20)
    for step in range(1, 6):
        put("touchMove", -20 - 8 * step, 20 + 8 * step)
    put("touchEnd")
    window.page.wait_for_function(f"() => document.querySelector('#pane').dataset.scale > {whole * 2.5}")
    assert scale(window) == pytest.approx(3 * whole, rel=0.1)
    context.close()


def test_photograph_is_shown_red_free_and_brighter(site: Site, visit: Open) -> None:
    window = visit(site, "vera")
    open_photograph(window)
    before = window.pixels("#pane")
    middle = tuple(slice(size // 2 - 50, size // 2 + 50) for size in before.shape[:2])
    window.page.keyboard.press("f")
    red_free = window.pixels("#pane")[middle].astype(int)
    green = before[middle][..., 1].astype(int)
    assert np.abs(red_free - green[..., None]).mean() < 2
    window.page.keyboard.press("b")
    assert window.page.evaluate("document.activeElement.id") == "brightness"
    window.page.locator("#brightness").fill("150")
    brighter = window.pixels("#pane")[middle].astype(int)
    assert brighter.mean() == pytest.approx(min(255, 1.5 * green.mean()), rel=0.05)
    window.page.locator("#contrast").fill("200")
    assert window.pixels("#pane")[middle].std() > 1.5 * brighter.std()
    window.page.click("#reset")
    window.page.keyboard.press("f")
    window.page.keyboard.press("b")
    assert np.array_equal(window.pixels("#pane")[middle], before[middle])
    assert window.complaints == []


def test_other_eye_and_earlier_runs_of_the_patient_are_shown(fresh: Site, visit: Open) -> None:
    earlier = add_earlier_run(fresh)
    window = visit(fresh, "vera")
    open_photograph(window)
    listed = window.page.locator("section[aria-labelledby=patient] a").evaluate_all(
        "links => links.map(a => a.pathname)"
    )
    # The other eye in this run, then what an earlier run says about either eye.
    assert listed == ["/runs/night/images/00000", f"/runs/{earlier}/images/00000", f"/runs/{earlier}/images/00001"]
    window.page.wait_for_function(
        "() => [...document.querySelectorAll('.thumbnail')].every((one) => one.naturalWidth === 128)"
    )
    with window.page.expect_response("**/images/00000/photograph"):
        window.page.keyboard.press("e")
    window.page.wait_for_function("() => document.querySelector('#second .pane').dataset.scale")
    # The right eye is on the left side, although the page is that of the left eye.
    sides = [window.page.locator(name).bounding_box() for name in ("#second .pane", "#pane")]
    assert sides[0] is not None
    assert sides[1] is not None
    assert sides[0]["x"] + sides[0]["width"] <= sides[1]["x"]
    assert window.pixels("#second .pane").std() > 10
    assert window.violations() == []
    for width in WIDTHS:
        window.page.set_viewport_size({"width": width, "height": 800})
        assert window.overflow_px() <= 0, width
    seen = fresh.query(
        "SELECT DISTINCT run, image_id FROM photograph_views WHERE viewer = 'vera' ORDER BY run, image_id"
    )
    assert {("night", "00000"), ("night", "00001"), (earlier, "00000")} <= set(seen)
    assert window.complaints == []


def test_missing_photograph_gives_a_reason_and_shows_its_overlay(fresh: Site, visit: Open) -> None:
    move_photograph(fresh.engine, "00000")
    move_photograph(fresh.engine, "00002")
    window = visit(fresh, "vera")
    for image_id, overlays in (("00000", 1), ("00002", 0)):
        window.go(f"/runs/night/images/{image_id}")
        window.page.wait_for_selector("#no-picture >> text=(image_missing)")
        assert not window.page.locator("#pane").is_visible()
        assert window.page.locator(".alone img").count() == overlays
        assert window.violations() == []
    window.page.set_viewport_size({"width": 320, "height": 800})
    assert window.overflow_px() <= 0


def test_ungradable_photograph_is_shown(fresh: Site, visit: Open) -> None:
    window = visit(fresh, "vera")
    window.go("/runs/night/images/00002")
    window.page.wait_for_function("() => document.querySelector('.photograph').complete")
    assert window.pixels("#pane").std() > 10
    assert window.page.locator("#opacity").count() == 0


def test_grader_can_work_by_keyboard(fresh: Site, visit: Open) -> None:
    window = visit(fresh, "anna")
    keys = window.page.keyboard
    keys.press("j")
    keys.press("Enter")
    window.page.wait_for_url("**/runs/night")
    keys.press("n")
    window.page.wait_for_url("**/images/00000*")
    keys.press("4")
    keys.press("Enter")
    window.page.wait_for_url("**/images/00001*")
    keys.press("3")
    keys.press("Enter")
    assert window.page.evaluate("document.activeElement.name") == "reason"
    assert fresh.decided() == [("00000", "anna", 4)]
    keys.type("4 haemorrhages, not 2")
    keys.press("Control+Enter")
    window.page.wait_for_url("**/images/00002*")
    keys.press("u")
    keys.press("Enter")
    window.page.wait_for_url("**/images/00003*")
    keys.press("?")
    assert window.page.locator("#keys").is_visible()
    keys.press("Escape")
    keys.press("0")
    keys.press("Enter")
    window.page.wait_for_selector("text=No images left for you to review")
    expected = [("00000", "anna", 4), ("00001", "anna", 3), ("00002", "anna", None), ("00003", "anna", 0)]
    assert fresh.decided() == expected
    assert fresh.query("SELECT reason FROM decisions WHERE decision_id = 2") == [("4 haemorrhages, not 2",)]
    assert window.complaints == []


def test_enter_says_what_is_missing(fresh: Site, visit: Open) -> None:
    window = visit(fresh, "anna")
    keys, missing = window.page.keyboard, window.page.locator("#decide .missing")
    window.go("/runs/night/images/00001")
    keys.press("Enter")
    assert missing.inner_text() == "Select a grade: 0 to 4, or u for ungradable."
    keys.press("4")
    assert not missing.is_visible()
    keys.press("Enter")
    assert missing.inner_text() == "Give a reason: your grade differs from the model's result."
    assert window.page.evaluate("document.activeElement.name") == "reason"
    assert window.violations() == []
    assert fresh.decided() == []
    assert window.complaints == []


def test_saved_notice_leads_back_and_undoes(fresh: Site, visit: Open) -> None:
    window = visit(fresh, "anna")
    keys, notice = window.page.keyboard, window.page.locator(".saved")
    window.go("/runs/night")
    keys.press("n")
    window.page.wait_for_url("**/images/00000")
    assert "4 of 4 left" in window.page.inner_text(".trail")
    for key in ("4", "6", "9"):
        keys.press(key)
    keys.press("Enter")
    window.page.wait_for_url("**/images/00001?saved=1")
    assert notice.inner_text().startswith("Saved: IDRiD_001.jpg, 4 PDR.")
    assert "3 of 4 left" in window.page.inner_text(".trail")
    assert window.violations() == []
    for width in WIDTHS:
        window.page.set_viewport_size({"width": width, "height": 800})
        assert window.overflow_px() <= 0, width
    keys.press("Backspace")
    window.page.wait_for_url("**/images/00000?undone=1")
    window.page.reload()
    window.page.wait_for_selector("text=Undone: 4 PDR")
    assert window.page.input_value("input[name=grade]:checked") == "4"
    findings = ("laser_scars", "maculopathy", "media_opacity")
    assert [window.page.is_checked(f"input[name={name}]") for name in findings] == [True, False, True]
    assert window.page.locator(".history .withdrawn").count() == 1
    keys.press("8")
    keys.press("Enter")
    window.page.wait_for_url("**/images/00001?saved=2")
    keys.press("l")
    window.page.wait_for_url("**/images/00000")
    assert "Undone" not in window.page.inner_text("main")
    badges = window.page.locator(".history li:not(.withdrawn) .badge").all_inner_texts()
    assert badges == ["4 PDR", "Laser scars", "Maculopathy", "Media opacity"]
    rows = fresh.query("SELECT decision_id, findings, seconds > 0 FROM decisions ORDER BY decision_id")
    assert rows == [(1, "laser_scars,media_opacity", 1), (2, "laser_scars,maculopathy,media_opacity", 1)]
    assert fresh.query("SELECT decision_id, reader FROM withdrawals") == [(1, "anna")]
    assert window.complaints == []


def test_skipped_image_is_counted_and_comes_back(fresh: Site, visit: Open) -> None:
    window = visit(fresh, "anna")
    window.go("/runs/night")
    window.page.keyboard.press("n")
    for number in range(4):
        window.page.wait_for_url(f"**/images/{number:05d}*")
        window.page.click("text=Skip for now")
    window.page.wait_for_url("**/images/00000?skipped=00003")
    assert window.page.inner_text(".saved").startswith("Skipped: IDRiD_021.jpg.")
    assert "4 of 4 left, 4 skipped" in window.page.inner_text(".trail")
    for number, key in enumerate("42u"):
        window.page.wait_for_url(f"**/images/{number:05d}*")
        window.page.keyboard.press(key)
        window.page.keyboard.press("Enter")
    window.page.wait_for_url("**/images/00003*")
    window.page.click("text=Skip for now")
    window.page.wait_for_selector("h1 >> text=1 skipped image left")
    assert window.violations() == []
    window.page.keyboard.press("n")
    window.page.wait_for_url("**/images/00003")


def test_unassisted_reader_sees_the_result_after_the_own_decision(fresh: Site, visit: Open) -> None:
    operator, window = visit(fresh, "olga"), visit(fresh, "anna")
    operator.go("/runs/night")
    operator.page.select_option("#assistance", "none")
    operator.page.click("button:text-is('Set')")
    operator.page.wait_for_selector(
        "text=Readers see the model's result only after their own decision. >> visible=true"
    )
    assert operator.violations() == []
    for width in WIDTHS:
        operator.page.set_viewport_size({"width": width, "height": 800})
        assert operator.overflow_px() <= 0, width
    window.go("/runs/night")
    assert window.page.locator("#images .badge").count() == 0
    assert "hidden until you have decided" in window.page.inner_text("#images")
    window.go("/runs/night/images/00000")
    source = window.page.content()
    for words in ("graded:4", "Reference grade", "4 <span", "/overlay", "/map", "/contours", "referable DR</span>"):
        assert words not in source, words
    for map_path in ("overlay", "map", "contours"):
        assert window.page.request.get(f"{fresh.address}/runs/night/images/00000/{map_path}").status == 403
    assert window.violations() == []
    window.page.keyboard.press("1")
    window.page.keyboard.press("Enter")
    window.page.wait_for_url("**/images/00001*")
    window.page.keyboard.press("l")
    window.page.wait_for_selector("#model ~ .line >> text=PDR")
    assert "without the model's result" in window.page.inner_text(".history")
    assert fresh.query("SELECT grade, reason, unassisted FROM decisions") == [(1, "", 1)]
    operator.go("/runs/night/agreement")
    row = operator.page.locator("main tbody tr").last.locator("td").all_inner_texts()
    assert (row[0], row[4], row[5]) == ("1", "0 of 1, kappa 0.00", "")
    assert operator.violations() == []
    for width in WIDTHS:
        operator.page.set_viewport_size({"width": width, "height": 800})
        assert operator.overflow_px() <= 0, width
    assert window.page.request.get(f"{fresh.address}/runs/night/agreement").status == 403
    assert window.complaints + operator.complaints == []


def test_shortcuts_can_be_disabled(site: Site, visit: Open) -> None:
    window = visit(site, "anna")
    window.page.click("#show-keys")
    window.page.uncheck("#keys-on")
    window.page.keyboard.press("Escape")
    window.go("/runs/night/images/00001")
    window.page.keyboard.press("3")
    window.page.keyboard.press("f")
    assert window.page.locator("input[name=grade]:checked").count() == 0
    assert window.page.locator("#red-free").get_attribute("aria-pressed") == "false"


def test_concurrent_decisions_are_both_kept(fresh: Site, visit: Open) -> None:
    anna, ben = visit(fresh, "anna"), visit(fresh, "ben")
    for window, grade in ((anna, "3"), (ben, "1")):
        window.go("/runs/night/images/00001")
        window.page.check(f"input[name=grade][value='{grade}']")
        window.page.fill("textarea", f"because {grade}")
    anna.page.click("text=Save and open next")
    anna.page.wait_for_url("**/images/00000*")
    ben.page.click("button:text-is('Save')")
    ben.page.wait_for_selector("text=anna has reviewed this image since you opened it")
    assert ben.page.input_value("textarea") == "because 1"
    assert ben.page.is_checked("input[name=grade][value='1']")
    ben.page.click("button:text-is('Save')")
    ben.page.wait_for_selector(".history >> text=because 1")
    assert fresh.decided() == [("00001", "anna", 3), ("00001", "ben", 1)]
    assert "because 3" in ben.page.inner_text(".history")


def test_second_reader_sees_no_decision_until_both_have_reviewed(fresh: Site, visit: Open) -> None:
    require_two_readers(fresh.engine)
    for name, grade in (("anna", "3"), ("ben", "1")):
        window = visit(fresh, name)
        window.go("/runs/night/images/00001")
        assert "anna" not in window.page.inner_text("main") or name == "anna"
        window.page.check(f"input[name=grade][value='{grade}']")
        window.page.fill("textarea", "why")
        window.page.click("button:text-is('Save')")
        window.page.wait_for_selector(".history")
    assert window.page.locator(".history li").count() == 2
    assert window.page.locator("#decide").count() == 0
    third = visit(fresh, "cleo")
    third.go("/runs/night")
    third.page.click("text=Review next image")
    third.page.wait_for_selector("text=Your arbitration")
    assert third.page.url.endswith("/images/00001")


def test_untrusted_text_is_never_executed(fresh: Site, visit: Open) -> None:
    insert_hostile_text(fresh.engine, "00002")
    window = visit(fresh, "anna")
    window.page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    window.go("/runs/night/images/00002")
    window.page.check("input[name=grade][value='1']")
    window.page.fill("textarea", "<img src=x onerror=window.harmed=1>")
    window.page.click("button:text-is('Save')")
    window.page.wait_for_selector(".history li")
    for path in ("/runs/night", "/runs/night/images/00002", "/runs/night?grade=<script>window.harmed=1</script>"):
        window.go(path)
        assert window.page.evaluate("window.harmed") is None
        shown = window.page.inner_text("main")
        assert "<script>window.harmed" in shown or "grade must be one of" in shown
    assert window.foreign == []


def test_form_of_another_site_is_refused(fresh: Site, visit: Open) -> None:
    window = visit(fresh, "anna")
    window.go("/runs/night/images/00001")
    shown = window.page.input_value("input[name=shown]")
    target = f"{fresh.address}/runs/night/images/00001/decision"
    with _other_site(target, {"grade": "0", "reason": "x", "shown": shown, "last_seen": "0", "then": "stay"}) as evil:
        # Same host, other port: the same site to the browser, so it sends the cookies.
        with window.page.expect_response(target) as answered:
            window.page.goto(evil)
        assert answered.value.status == 403
        window.page.wait_for_selector("text=This form was sent from another site")
    assert fresh.decided() == []


def test_cookie_is_hidden_from_scripts_and_deleted_on_sign_out(site: Site, visit: Open) -> None:
    window = visit(site, "vera")
    assert "fundus" not in window.page.evaluate("document.cookie")
    (cookie,) = [one for one in window.page.context.cookies() if one["name"] == "fundus"]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    window.page.click("text=Sign out")
    window.page.wait_for_url("**/sign-in")
    window.go("/runs/night")
    assert re.search(r"/sign-in\?next=/runs/night$", window.page.url)


class _other_site:  # noqa: N801 - used as a context manager
    """A page of another site that submits a form when it is opened."""

    def __init__(self, target: str, fields: dict[str, str]) -> None:
        inputs = "".join(f'<input name="{name}" value="{value}">' for name, value in fields.items())
        page = (
            f'<!doctype html><link rel="icon" href="data:,"><form method="post" action="{target}">{inputs}</form>'
            "<script>document.forms[0].submit()</script>"
        ).encode()

        class Evil(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Evil)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
