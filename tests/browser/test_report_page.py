"""The report page in a real browser: content, filters, accessibility, and handling of untrusted text."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from sqlalchemy import select, update

from tests.browser.conftest import Visit
from tests.browser.ledgers import MANIFEST, add_reviews, fill_ledger, ids_by_grade
from tests.services.seaweedfs import Bucket
from worker.core.settings import Settings, parse_settings
from worker.core.storage.storage import Storage
from worker.ledger.database import connect, write_transaction
from worker.ledger.schema import gradings, images, runs
from worker.report import writer as report_writer
from worker.report.destination import Destination, folder_destination
from worker.report.presigned_links import link_report
from worker.report.writer import ReportOptions, write_report

SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
IMAGES = 210
IMAGES_PER_PAGE = 24
SHARES = (0.55, 0.17, 0.1, 0.08, 0.03)
ORDER = "status DESC, grade DESC, p_ge4 DESC, p_ge3 DESC, p_ge2 DESC, p_ge1 DESC, uri, image_id"
DOUBTFUL = f"flags NOT IN ('', 'no_output_passed') OR grade < 2 AND {MANIFEST.thresholds[2]} - p_ge2 < 0.105"
NIGHT = "gradings JOIN images USING (image_id) WHERE image_id LIKE 'night-%'"
HOSTILE = '<img src=x onerror="window.harmed=1"></script><script>window.harmed=1</script>'
HOSTILE_FILE = "%3Cscript%3Ewindow.harmed=1%3C/script%3E<svg onload=window.harmed=1>.jpg"

PSEUDONYM = "5e" * 32

Open = Callable[..., Visit]


@dataclass(frozen=True)
class Reports:
    """Addresses of four reports: with parts in files, with hostile text, with reviews, and without images."""

    ledger: Path
    parts: str
    hostile: str
    read: str
    empty: str

    def query(self, statement: str, *values: object) -> list[Any]:
        with sqlite3.connect(self.ledger) as connection:
            return connection.execute(statement, values).fetchall()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, _migrated_file: Path) -> Iterator[Reports]:
    folder = tmp_path_factory.mktemp("reports")
    photographs = _shrink_samples(folder)
    ledger = folder / "ledger.db"
    ledger.write_bytes(_migrated_file.read_bytes())
    settings = parse_settings(database_url=f"sqlite:///{ledger}", storage_url=(folder / "store").as_uri())
    engine = connect(settings)
    fill_ledger(engine, "night", IMAGES, photographs, shares=SHARES)
    fill_ledger(engine, "hostile", 6, photographs, shares=(0, 0, 0, 1, 0), seed=1)
    fill_ledger(engine, "empty", 0, photographs)
    read = fill_ledger(engine, "read", 40, photographs, shares=(0.5, 0.15, 0.1, 0.1, 0.05), seed=3)
    worst, moderate, healthy = (ids_by_grade(engine, read, grade) for grade in (4, 2, 0))
    said = {worst[0]: (4, 4), moderate[0]: (1, 1), moderate[1]: (3,), healthy[0]: (2, 0), healthy[1]: (2, 0, 3)}
    add_reviews(engine, "read", {**said, ids_by_grade(engine, read, None)[0]: (None, None)})
    with write_transaction(engine) as connection:
        of_worst = select(images.c.patient_id).where(images.c.image_id == worst[0]).scalar_subquery()
        connection.execute(
            update(images)
            .where(images.c.image_id.like("read-%"), images.c.patient_id == of_worst)
            .values(patient_id=PSEUDONYM)
        )
        connection.execute(update(runs).where(runs.c.name == "hostile").values(source=HOSTILE))
        ours = images.c.image_id.like("hostile-%")
        connection.execute(update(images).where(ours).values(patient_id=HOSTILE[:128], uri=f"file:///{HOSTILE_FILE}"))
        last = {"status": "failed", "error_code": HOSTILE[:64], "error_detail": HOSTILE}
        last |= dict.fromkeys(("grade", "referable", "saliency", "model_id", "overlay_key"))
        last |= dict.fromkeys(f"p_ge{k}" for k in range(5))
        connection.execute(update(gradings).where(gradings.c.image_id == "hostile-000005").values(last))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_writer, "ALL_PICTURES_UP_TO", 100)
        patch.setattr(report_writer, "PATIENTS_PER_PART", 50)
        addresses = {name: _write(engine, settings, name, folder) for name in ("hostile", "empty", "read")}
        patch.setattr(report_writer, "WITHIN_PAGE_BYTES", 0)
        addresses["night"] = _write(engine, settings, "night", folder)
    yield Reports(ledger, addresses["night"], addresses["hostile"], addresses["read"], addresses["empty"])
    engine.dispose()


def _shrink_samples(folder: Path) -> list[str]:
    uris = []
    for sample in sorted(SAMPLES.glob("IDRiD_*.jpg"))[:6]:
        picture = cv2.imread(str(sample))
        small = cv2.resize(
            picture, None, fx=420 / picture.shape[1], fy=420 / picture.shape[1], interpolation=cv2.INTER_AREA
        )
        cv2.imwrite(str(folder / sample.name), small)
        uris.append((folder / sample.name).as_uri())
    return uris


def _write(engine: Any, settings: Settings, run: str, folder: Path) -> str:
    steps = {**ReportOptions().next_steps, "3": HOSTILE}
    choices = (
        ReportOptions(next_steps=steps)
        if run == "hostile"
        else ReportOptions(baseline="hostile" if run == "night" else None)
    )
    return write_report(engine, settings, run, folder_destination(folder / run), choices, on_warning=lambda _: None)


def open_images(visit: Visit, query: str = "") -> None:
    visit.page.evaluate("hash => { location.hash = hash }", f"#images{query}")
    visit.page.wait_for_selector("#view-images:not([hidden])")
    settle(visit)


def settle(visit: Visit) -> None:
    # No function of Playwright's that polls: the page's policy lets no text become code.
    visit.page.wait_for_selector("body:not(:has([aria-busy]))", state="attached")


def shown_ids(visit: Visit) -> list[str]:
    return visit.page.locator("article details > p:last-child").all_text_contents()


@pytest.mark.parametrize(("width", "dark"), [(320, False), (1280, True)], ids=["phone-light", "desk-dark"])
def test_page_is_accessible_and_fits_without_errors(reports: Reports, visit: Open, width: int, *, dark: bool) -> None:
    seen = visit(reports.parts, width=width, dark=dark)
    for view in ("#overview", "#patients?show=attention", "#images?outcome=4"):
        seen.page.evaluate("view => { location.hash = view }", view)
        seen.page.wait_for_selector(f"#view-{view[1:].partition('?')[0]}:not([hidden])")
        settle(seen)
        for other in (1920, 768, 320, width):
            seen.page.set_viewport_size({"width": other, "height": 800})
            assert seen.overflow_px() == 0, (view, other)
        assert seen.violations() == [], view
    seen.page.locator("button.panels").first.click()
    seen.page.wait_for_selector("dialog[open]")
    assert seen.violations() == []
    assert seen.overflow_px() == 0
    assert seen.complaints == []


def test_requests_stay_in_the_folder_and_parts_load_on_demand(reports: Reports, visit: Open) -> None:
    seen = visit(reports.parts)
    seen.page.wait_for_selector(".person .pair figure img")
    seen.page.wait_for_load_state("networkidle")
    # The photographs of the patients to see are in the first parts of six.
    shown = {Path(url).name for url in seen.requests if not url.startswith("data:")}
    assert {"index.html", "patients-1.js", "images-1.js"} <= shown <= {f"images-{n}.js" for n in (1, 2, 3)} | {
        "index.html", "patients-1.js",
    }  # fmt: skip
    open_images(seen)
    seen.page.evaluate("location.hash = '#patients'")
    seen.page.wait_for_selector("#view-patients tbody tr")
    fetched = [url for url in seen.requests if not url.startswith("data:")]
    folder = reports.parts.rpartition("/")[0]
    assert {url.rpartition("/")[0] for url in fetched} == {folder}
    assert len(fetched) == len({*shown, "patients-2.js"})


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("", "1"),
        ("?outcome=referable", "grade >= 2"),
        ("?outcome=3", "grade = 3"),
        ("?outcome=none", "grade IS NULL"),
        ("?outcome=u&code=blurred", "status = 'ungradable' AND error_code = 'blurred'"),
        ("?eye=left&outcome=0", "eye = 'left' AND grade = 0"),
        ("?reference=2", "reference_grade = 2"),
        ("?differs=1", "reference_grade <> grade"),
        ("?unsure=1&eye=right", f"eye = 'right' AND grade IS NOT NULL AND ({DOUBTFUL})"),
    ],
)  # fmt: skip
def test_filters_and_pages_show_what_sql_finds(reports: Reports, visit: Open, query: str, where: str) -> None:
    order = ORDER.replace("status DESC", "CASE status WHEN 'graded' THEN 0 WHEN 'ungradable' THEN 1 ELSE 2 END")
    expected = [
        image_id for (image_id,) in reports.query(f"SELECT image_id FROM {NIGHT} AND ({where}) ORDER BY {order}")
    ]
    assert expected
    seen = visit(reports.parts)
    open_images(seen, query)
    found = shown_ids(seen)
    for page in range(2, ceil(len(expected) / IMAGES_PER_PAGE) + 1):
        seen.page.locator("#view-images .pager >> nth=0 >> a[rel=next]").click()
        seen.page.wait_for_selector(f'#view-images .pager input[value="{page}"]')
        settle(seen)
        found += shown_ids(seen)
    assert found == expected
    assert seen.complaints == []


def test_form_sets_the_filter_and_a_shared_address_sets_the_form(reports: Reports, visit: Open) -> None:
    seen = visit(f"{reports.parts}#images?outcome=2&eye=left")
    settle(seen)
    assert seen.page.locator("[name=outcome]").input_value() == "2"
    seen.page.locator("[name=eye]").select_option("right")
    ((count,),) = reports.query(f"SELECT count(*) FROM {NIGHT} AND grade = 2 AND eye = 'right'")
    seen.page.locator("#view-images .found", has_text=re.compile(f"^{count} images\\.$")).wait_for()
    assert seen.page.url.endswith("#images?outcome=2&eye=right")


def test_each_model_score_is_shown_with_its_threshold(reports: Reports, visit: Open) -> None:
    seen = visit(f"{reports.parts}#images?outcome=2")
    settle(seen)
    article = seen.page.locator("article").first
    ((*scores,),) = reports.query(
        f"SELECT p_ge1, p_ge2, p_ge3, p_ge4 FROM {NIGHT} AND image_id = ?",
        article.locator("details > p").last.text_content(),
    )
    assert f"Model score for referable DR {100 * scores[1]:.0f} %" in article.inner_text()
    article.locator("summary").click()
    rows = article.locator(".chances tbody tr")
    for place, (score, threshold) in enumerate(zip(scores, MANIFEST.thresholds[1:], strict=True)):
        row = rows.nth(place)
        assert row.locator(".number").all_inner_texts() == [f"{100 * score:.0f} %", f"{100 * threshold:.0f} %"]
        bar, filled, tick = (row.locator(name).bounding_box() for name in (".meter", ".filled", ".tick"))
        assert bar is not None
        assert filled is not None
        assert tick is not None
        assert filled["width"] / bar["width"] == pytest.approx(score, abs=0.01)
        assert (tick["x"] + tick["width"] / 2 - bar["x"]) / bar["width"] == pytest.approx(threshold, abs=0.01)


def test_cell_of_the_confusion_matrix_opens_its_gallery(reports: Reports, visit: Open) -> None:
    seen = visit(reports.parts)
    cell = seen.page.get_by_role("link", name=re.compile("images with reference grade 2, grade 3"))
    count = int(cell.inner_text())
    assert [(count,)] == reports.query(f"SELECT count(*) FROM {NIGHT} AND reference_grade = 2 AND grade = 3")
    cell.click()
    seen.page.wait_for_selector("article:not([aria-busy])")
    settle(seen)
    assert seen.page.locator("article").count() == min(24, count)
    assert seen.page.locator("article .wrong").first.inner_text() == "reference grade 2, differs"


def test_patients_are_those_that_sql_finds_and_lead_to_their_worst_image(reports: Reports, visit: Open) -> None:
    seen = visit(f"{reports.parts}#patients?show=attention")
    seen.page.wait_for_selector("#view-patients tbody tr")
    eyes = f"SELECT patient_id, eye, max(grade) AS grade FROM {NIGHT} GROUP BY 1, 2"
    expected = {
        patient for (patient,) in reports.query(f"SELECT DISTINCT patient_id FROM ({eyes}) WHERE grade IS NULL")
    }
    assert set(seen.page.locator("#view-patients tbody th").all_inner_texts()) == expected
    seen.page.evaluate("location.hash = '#patients'")
    seen.page.wait_for_selector("#view-patients .pager a[rel=next]")
    seen.page.wait_for_selector("#view-patients tbody tr:nth-child(100)")
    worst, eye = reports.query(f"SELECT image_id, eye FROM {NIGHT} AND status = 'graded' ORDER BY {ORDER} LIMIT 1")[0]
    seen.page.locator("#view-patients tbody tr").first.locator(f"[data-label^='{eye.title()} eye'] a").click()
    seen.page.wait_for_selector("article.target")
    assert seen.page.locator("article.target details > p:last-child").text_content() == worst


def test_pseudonym_is_short_with_the_whole_on_hover_and_names_its_photographs(reports: Reports, visit: Open) -> None:
    seen = visit(reports.read)
    files = {
        unquote(uri.rpartition("/")[2])
        for (uri,) in reports.query("SELECT uri FROM images WHERE patient_id = ?", PSEUDONYM)
    }
    short = PSEUDONYM[:12] + "…"
    heading = seen.page.locator(".person h3", has_text=short)
    assert heading.locator("[title]").get_attribute("title") == PSEUDONYM
    seen.page.evaluate("location.hash = '#patients'")
    name = seen.page.locator("#view-patients tbody th", has_text=short)
    name.wait_for()
    assert name.locator("[title]").get_attribute("title") == PSEUDONYM
    for shown in (heading.text_content(), name.text_content()):
        named = set((shown or "").removeprefix(short).strip().split(", "))
        assert named <= files
    assert PSEUDONYM not in seen.page.inner_text("main")


def test_phone_shows_a_patient_whole(reports: Reports, visit: Open) -> None:
    seen = visit(reports.parts, width=320)
    people = seen.page.locator(".person")
    assert "Refer to an ophthalmologist" in people.first.inner_text()
    assert people.evaluate_all("all => all.filter(one => one.scrollWidth > one.clientWidth).length") == 0
    seen.page.evaluate("location.hash = '#patients'")
    rows = seen.page.locator("#view-patients table.patients tbody tr")
    rows.first.wait_for()
    hidden = rows.locator("th, td").evaluate_all("cells => cells.filter(c => c.scrollWidth > c.clientWidth).length")
    table = seen.page.locator("#view-patients .scroll:has(.patients)")
    assert (hidden, table.evaluate("e => e.scrollWidth - e.clientWidth")) == (0, 0)
    assert rows.first.locator("td").all_inner_texts()[-1].startswith("Refer to an ophthalmologist")
    labels = rows.first.locator("td[data-label]").evaluate_all(
        "cells => cells.map(cell => getComputedStyle(cell, '::before').content)"
    )
    assert labels == ['"Right eye (OD): "', '"Left eye (OS): "']


def test_slider_goes_from_the_photograph_to_the_colours(reports: Reports, visit: Open) -> None:
    seen = visit(f"{reports.parts}#images")
    settle(seen)
    seen.page.locator("button.panels").first.click()
    pictures = {}
    for percent in (0, 50, 100):
        seen.page.locator("dialog input").fill(str(percent))
        shot = seen.page.locator("dialog .stack").screenshot()
        pictures[percent] = cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR).astype(int)
    photograph, half, areas = (pictures[percent] for percent in (0, 50, 100))
    changed = np.abs(areas - photograph).max(axis=2) > 20
    assert 0.01 < changed.mean() < 0.6  # areas stand out, and do not cover the photograph
    assert np.abs(half - (photograph + areas) / 2).mean() < 3
    seen.page.keyboard.press("m")
    assert seen.page.locator("dialog .influence").evaluate("layer => layer.style.opacity") == "0"
    seen.page.keyboard.press("m")
    assert seen.page.locator("dialog .influence").evaluate("layer => layer.style.opacity") == "1"


def test_keyboard_alone_is_enough(reports: Reports, visit: Open) -> None:
    seen = visit(reports.parts)
    keys, focused = seen.page.keyboard, seen.page.locator(":focus")
    keys.press("Tab")
    assert focused.inner_text() == "Skip to content"
    for words in ("Overview", "Patients", "Images"):
        keys.press("Tab")
        assert focused.inner_text().startswith(words)
    keys.press("Enter")
    seen.page.wait_for_selector("#view-images:not([hidden])")
    settle(seen)
    assert focused.inner_text() == "Images"
    for _ in range(30):
        keys.press("Tab")
        if "panels" in (focused.get_attribute("class") or ""):
            break
    opener = focused.get_attribute("aria-label")
    keys.press("Enter")
    seen.page.wait_for_selector("dialog[open]")
    before = seen.page.locator("dialog .influence").evaluate("layer => getComputedStyle(layer).opacity")
    while focused.get_attribute("type") != "range":
        keys.press("Tab")
    keys.press("ArrowLeft")
    after = seen.page.locator("dialog .influence").evaluate("layer => getComputedStyle(layer).opacity")
    assert float(after) < float(before)
    keys.press("Escape")
    assert seen.page.locator("dialog[open]").count() == 0
    assert focused.get_attribute("aria-label") == opener


def test_untrusted_text_is_not_interpreted(reports: Reports, visit: Open) -> None:
    seen = visit(reports.hostile)
    assert HOSTILE in (seen.page.locator(".made").text_content() or "")
    seen.page.evaluate("location.hash = '#patients'")
    seen.page.wait_for_selector("#view-patients tbody tr")
    open_images(seen)
    assert unquote(HOSTILE_FILE.rpartition("/")[2]) in seen.page.locator("article h2").first.inner_text()
    assert seen.page.evaluate("window.harmed") is None
    assert seen.page.locator("article img[src=x], article svg script, article script").count() == 0
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith(("file:", "data:"))] == []


def test_content_security_policy_blocks_injected_markup(reports: Reports, visit: Open) -> None:
    seen = visit(reports.hostile)
    seen.page.evaluate(
        "document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.harmed=1\">')"
    )
    seen.page.evaluate("fetch('https://example.invalid/').catch(() => {})")
    seen.page.wait_for_timeout(200)
    assert seen.page.evaluate("window.harmed") is None
    assert len(seen.complaints) >= 2
    assert "example.invalid" not in str(seen.requests)


def test_sheet_of_a_patient_has_each_photograph_without_and_with_areas(reports: Reports, visit: Open) -> None:
    seen = visit(reports.parts)
    seen.page.evaluate("window.print = () => { window.printed = true; }; location.hash = '#patients'")
    seen.page.locator("#view-patients tbody tr").first.get_by_role("button", name="Print").click()
    seen.page.wait_for_function("window.printed")
    sheet = seen.page.locator("#sheets .sheet")
    figures = sheet.locator("figure")
    words = [figures.nth(place).inner_text() for place in range(figures.count())]
    marked = [figures.nth(place).locator(".influence").count() for place in range(figures.count())]
    assert len(words) >= 2
    assert marked == [int("with areas" in text) for text in words]
    assert marked[:2] == [0, 1]
    assert "Lines at 50 and 80 %" in sheet.locator(".legend").inner_text()
    assert seen.complaints == []


def test_print_has_pages_and_no_controls(reports: Reports, visit: Open) -> None:
    seen = visit(f"{reports.parts}#images?outcome=3")
    settle(seen)
    pages = len(re.findall(rb"/Type\s*/Page\b", seen.page.pdf(format="A4")))
    assert 2 <= pages <= 12
    seen.page.emulate_media(media="print")
    assert not seen.page.locator("#image-filters").is_visible()
    overview = visit(reports.parts)
    assert len(re.findall(rb"/Type\s*/Page\b", overview.page.pdf(format="A4"))) >= 2


def test_overview_works_without_scripts(reports: Reports, visit: Open) -> None:
    seen = visit(reports.parts, scripts=False)
    assert seen.page.locator("#view-overview .person").count() == 20
    assert "require JavaScript" in seen.page.locator("noscript").inner_text()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_final_grades_override_the_model_grades(reports: Reports, visit: Open, *, dark: bool) -> None:
    seen = visit(reports.read, dark=dark, width=320 if dark else 1280)
    overview = seen.page.locator("#view-overview").inner_text()
    assert "4 reviewed, 2 changed from the model grade" in overview
    assert seen.page.locator("section[aria-labelledby=reviews] li").all_inner_texts()[1:] == [
        "1 with one of two reviews",
        "1 where readers disagree, awaiting arbitration",
    ]
    assert seen.violations() == []
    assert seen.overflow_px() == 0
    seen.page.get_by_role("link", name="2 changed from the model grade").click()
    settle(seen)
    cards = seen.page.locator("article")
    assert [card.partition("\n")[0] for card in cards.locator(".read").all_inner_texts()] == [
        "Changed from model result: 0 No referable DR found by the model.",
        "Changed from model result: 2 Moderate NPDR.",
    ]
    assert cards.first.locator(".badge").inner_text() == "3 Severe NPDR"
    assert [line.partition(",")[0] for line in cards.first.locator(".read .quiet").all_inner_texts()] == [
        "anna: 2 Moderate NPDR", "ben: 0 No DR", "cleo (arbitration): 3 Severe NPDR",
    ]  # fmt: skip
    assert seen.violations() == []
    for review, summary, names, model in (
        ("h", "One of two reviews", 0, "2 Moderate NPDR"), ("d", "Readers disagree", 2, "0 No DR"),
    ):  # fmt: skip
        open_images(seen, f"?reading={review}")
        assert seen.page.locator("#view-images .found").inner_text() == "1 image."
        assert summary in cards.locator(".read").inner_text()
        assert cards.locator(".badge").all_inner_texts() == [f"Awaiting reading (model: {model})"]
        assert cards.locator(".read .quiet").count() == names
    seen.page.evaluate("location.hash = '#patients?show=reading'")
    seen.page.wait_for_selector("#view-patients tbody tr")
    assert seen.page.locator("#view-patients tbody tr").count() == 2
    seen.page.set_viewport_size({"width": 320, "height": 800})
    cells = seen.page.locator("#view-patients tbody td, #view-patients tbody th")
    assert cells.evaluate_all("cells => cells.filter(cell => cell.scrollWidth > cell.clientWidth).length") == 0
    assert seen.overflow_px() == 0
    assert seen.complaints == []


def test_ungraded_photograph_has_no_overlay(reports: Reports, visit: Open) -> None:
    seen = visit(reports.read)
    open_images(seen, "?outcome=u")
    panels = seen.page.locator("article button.panels").first
    assert panels.locator("img").count() == 1
    assert "no map: not graded by the model" in panels.inner_text()
    panels.click()
    seen.page.wait_for_selector("dialog[open]")
    assert seen.page.locator("dialog h2").inner_text().partition(": ")[2].startswith("Ungradable: ")
    assert seen.page.locator("dialog input").is_disabled()
    assert seen.page.locator("dialog .influence").count() == 0


def test_run_without_images_says_so(reports: Reports, visit: Open) -> None:
    seen = visit(reports.empty)
    assert "No images in this run" in seen.page.locator("#view-overview").inner_text()
    open_images(seen)
    assert seen.page.locator("#view-images .found").inner_text() == "No images."
    seen.page.evaluate("location.hash = '#patients'")
    seen.page.locator("#view-patients .found", has_text="No patients.").wait_for()
    assert not seen.page.locator("#view-patients table").is_visible()
    assert seen.violations() == []
    assert seen.complaints == []


def test_missing_part_is_named(reports: Reports, visit: Open, tmp_path: Path) -> None:
    alone = tmp_path / "index.html"
    alone.write_bytes(Path(reports.parts.removeprefix("file://")).read_bytes())
    seen = visit(f"{alone.as_uri()}#images")
    settle(seen)
    assert (
        seen.page.locator("article").first.inner_text()
        == "Cannot load images-1.js: the file is missing or the link has expired."
    )


def test_part_of_another_report_is_not_shown(reports: Reports, visit: Open, tmp_path: Path) -> None:
    for name in ("index.html", "images-1.js"):
        text = (Path(reports.parts.removeprefix("file://")).parent / name).read_text()
        (tmp_path / name).write_text(re.sub(r'^(fundusPart\("images-1",)"\w+"', r'\1"0000000000000000"', text))
    seen = visit(f"{(tmp_path / 'index.html').as_uri()}#images")
    settle(seen)
    assert seen.page.locator("article").first.inner_text().startswith("The report has been updated")


def test_presigned_link_opens_a_report_in_a_private_bucket(reports: Reports, visit: Open, bucket: Bucket) -> None:
    folder = Path(reports.parts.removeprefix("file://")).parent
    destination = Destination(Storage(parse_settings()).overlays, "night/report/")
    for file in folder.iterdir():
        destination.write(file.name, file.read_bytes())
    address = link_report(destination, seconds=60)
    seen = visit(f"{address}#images")
    settle(seen)
    assert seen.page.locator("article img").count() > 24
    assert {url.partition("/night/")[0] for url in seen.requests if not url.startswith("data:")} == {
        address.partition("/night/")[0]
    }
    closed = visit(address.partition("?")[0])
    assert "AccessDenied" in closed.page.content()
