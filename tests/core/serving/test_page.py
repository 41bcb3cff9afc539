"""The page in a real browser: what people do on it, by pointer and by keyboard."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from proxqa_core.serving.app import STATIC
from proxqa_core.serving.live import LiveFrame
from proxqa_core.types import ObjectDepth, ObjectQuery, ProximityAnswer, QuestionKind
from tests.core.serving.conftest import HeldEngine, jpeg

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt install chromium)")

EVIL = "<img src=x onerror=window.hacked=1>"
WAIT_MS = 15_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page on which nothing fails silently and no script from outside runs."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(WAIT_MS)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: problems.append(dialog.message))
    yield page
    assert page.evaluate("window.hacked") is None
    page.close()
    assert problems == []


def photo(name: str = "room.jpg", size: tuple[int, int] = (640, 480)) -> dict[str, Any]:
    return {"name": name, "mimeType": "image/jpeg", "buffer": jpeg(size)}


def open_photo(page: Any, address: str, name: str = "room.jpg") -> None:
    page.goto(address)
    page.locator("#photo").wait_for()
    page.set_input_files("#photo-file", photo(name))
    page.wait_for_selector("#photo-stage svg[viewBox]")


def drag(page: Any, stage: str, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag on an image; places are shares of its width and height."""
    frame = page.locator(f"{stage} svg").bounding_box()
    places = [(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in (start, end)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=4)
    page.mouse.up()


# --- a photo ---------------------------------------------------------------------------------------------------------


def test_a_question_about_a_photo(page: Any, serve: Callable[..., str]) -> None:
    open_photo(page, serve())
    page.fill("#photo-question", "Which is closer, the chair or the table?")
    page.keyboard.press("Enter")
    said = page.locator("#photo-answer")
    said.locator(".sure").wait_for()
    assert "The chair is closer than the table" in said.inner_text() and "90 % sure" in said.inner_text()
    bar = said.locator("svg[aria-label='chair: 0.20 ± 0.05'] rect").nth(1)
    assert float(bar.get_attribute("width")) == 20.0
    assert "90 %" in said.locator("tbody tr").first.inner_text()


def test_the_example_is_one_click_and_a_question(page: Any, serve: Callable[..., str]) -> None:
    page.goto(serve())
    page.click("#photo-example")
    page.locator("#photo-objects li").nth(2).wait_for()
    page.locator("#photo-question").press("Enter")
    page.locator("#photo-answer .said").wait_for()


def test_a_box_that_is_drawn_is_asked(page: Any, serve: Callable[..., str]) -> None:
    open_photo(page, serve())
    drag(page, "#photo-stage", (0.25, 0.25), (0.5, 0.75))
    page.keyboard.type("chair")  # the name's field has the focus
    page.fill("#photo-name", "piano, lamp")
    page.click("#photo-depths")
    rows = page.locator("#photo-answer tbody tr")
    rows.first.wait_for()
    assert [t.split("\t")[0].split("\n")[0] for t in rows.all_inner_texts()] == ["chair", "lamp", "piano"]
    assert "not seen" in rows.nth(2).inner_text() and "0.50" not in rows.nth(2).inner_text()
    edge = page.locator("#photo-stage .own rect.edge")
    assert [round(float(edge.get_attribute(k))) for k in ("x", "y", "width", "height")] == pytest.approx(
        [160, 120, 160, 240], abs=2
    )
    assert "name doubted" not in page.locator("#photo-answer").inner_text()
    assert "chair 0.20 ± 0.05" in page.locator("#photo-stage .hold text").inner_html()


def test_a_name_that_is_doubted_is_answered_and_said(page: Any, serve: Callable[..., str]) -> None:
    open_photo(page, serve())
    drag(page, "#photo-stage", (0.25, 0.25), (0.5, 0.75))
    page.keyboard.type("piano")  # unknown to the engine, but somebody drew its box
    page.click("#photo-depths")
    row = page.locator("#photo-answer tbody tr")
    row.wait_for()
    assert "0.50 ± 0.30" in row.inner_text() and "name doubted" in row.inner_text()
    assert "piano? 0.50" in page.locator("#photo-stage .hold text").inner_html()


def test_what_is_missing_is_said(page: Any, serve: Callable[..., str]) -> None:
    page.goto(serve())
    page.click("#photo-depths")
    page.locator("#problem").wait_for()
    assert "no photo yet" in page.locator("#problem").inner_text()
    page.set_input_files("#photo-file", photo())
    page.wait_for_selector("#photo-stage svg[viewBox]")
    page.click("#photo-depths")
    page.get_by_text("nothing is asked").wait_for()
    page.fill("#photo-question", "Write a poem about the sea.")
    page.keyboard.press("Enter")
    page.get_by_text("not about proximity").wait_for()
    page.set_input_files("#photo-file", {"name": "x.jpg", "mimeType": "image/jpeg", "buffer": b"no image"})
    page.get_by_text("is no image that can be read").wait_for()


def test_a_photo_that_was_forgotten_is_sent_again(
    page: Any, serve: Callable[..., str], engine_held: HeldEngine
) -> None:
    open_photo(page, serve(remembered_images=1))
    page.request.post(f"{page.url}api/images", data=jpeg(grey=1))
    page.fill("#photo-name", "chair")
    page.click("#photo-depths")
    page.locator("#photo-answer tbody tr").wait_for()
    assert engine_held.encoded == 3


def test_text_from_outside_stays_text(page: Any, serve: Callable[..., str], engine_held: HeldEngine) -> None:
    engine_held.model_name = EVIL
    engine_held.known[EVIL] = 0.3
    open_photo(page, serve(), name=f"{EVIL}.jpg".replace("/", ""))
    drag(page, "#photo-stage", (0.2, 0.2), (0.6, 0.6))
    page.keyboard.type(EVIL)
    page.click("#photo-depths")
    page.locator("#photo-answer tbody tr").wait_for()
    assert EVIL in page.locator("#photo-answer").inner_text() and EVIL in page.locator("#model").inner_text()
    page.fill("#photo-question", f"Describe {EVIL}")
    page.keyboard.press("Enter")
    page.locator("#problem").wait_for()
    assert EVIL in page.locator("#problem").inner_text()
    assert page.locator("img[src=x]").count() == 0


def test_by_keyboard_alone(page: Any, serve: Callable[..., str]) -> None:
    open_photo(page, serve())
    page.locator("#photo-box").focus()
    page.keyboard.press("Enter")
    page.keyboard.type("chair")
    edge = page.locator("#photo-stage .own rect.edge")
    before = float(edge.get_attribute("x")), float(edge.get_attribute("width"))
    page.locator("#photo-stage .own").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert float(edge.get_attribute("x")) > before[0] and float(edge.get_attribute("width")) > before[1]
    page.locator("#photo-depths").focus()
    page.keyboard.press("Enter")
    page.locator("#photo-answer tbody tr").wait_for()
    page.locator("#photo-stage .own").focus()
    page.keyboard.press("Delete")
    assert page.locator("#photo-stage .own").count() == 0 and page.locator("#photo-objects li").count() == 0


def test_every_control_has_a_name(page: Any, serve: Callable[..., str], folder: Path) -> None:
    page.goto(serve(boxes_folder=folder))
    page.locator("#boxes-images li").first.wait_for()
    for tab in ("boxes", "photo"):
        page.click(f"#tab-{tab}")
        if tab == "photo":
            page.set_input_files("#photo-file", photo())
            page.wait_for_selector("#photo-stage svg[viewBox]")
        page.click(f"#{'boxes-add' if tab == 'boxes' else 'photo-box'}")
        tree = page.locator("body").aria_snapshot()
        nameless = re.findall(r"- (?:button|textbox|combobox|tab|img|group)(?: \[[^\]]*\])*:?$", tree, re.M)
        assert "button" in tree and nameless == [], tree


def test_a_key_is_asked_for(page: Any, serve: Callable[..., str]) -> None:
    page.goto(serve(api_key="sesame"))
    page.fill("#key", "wrong")
    page.keyboard.press("Enter")
    page.get_by_text("the API key is missing or wrong").wait_for()
    page.fill("#key", "sesame")
    page.keyboard.press("Enter")
    page.locator("#photo").wait_for()
    assert not page.locator("#key-form").is_visible() and not page.locator("#problem").is_visible()


# --- a folder --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images; the first has a chair with a measured depth."""
    for i in range(3):
        Image.new("RGB", (640, 480), (90 + i, 90, 90)).save(tmp_path / f"{i:04d}.png")
    chair = {"name": "chair", "box": [10, 20, 110, 220], "depth_m": 1.5, "note": "kept"}
    record = {"image": "0000.png", "width": 640, "height": 480, "objects": [chair], "source": "made"}
    (tmp_path / "annotations.json").write_text(json.dumps([record]))
    return tmp_path


def test_boxes_are_drawn_and_saved(page: Any, serve: Callable[..., str], folder: Path) -> None:
    page.goto(serve(boxes_folder=folder))
    page.get_by_text("0001.png (2 of 3)").wait_for()  # the first that nobody looked at
    page.click("#boxes-previous")
    page.get_by_text("0000.png (1 of 3)").wait_for()
    drag(page, "#boxes-stage", (0.5, 0.5), (0.75, 0.75))
    page.click("#boxes-save")
    assert "has no name" in page.locator("#problem").inner_text()
    page.keyboard.type("table")
    page.keyboard.press("PageDown")  # saves
    page.get_by_text("0001.png (2 of 3)").wait_for()
    (record,) = json.loads((folder / "annotations.json").read_text())
    assert record["objects"][0]["depth_m"] == 1.5 and record["objects"][0]["note"] == "kept"
    assert record["objects"][1]["name"] == "table" and record["source"] == "made"
    assert record["objects"][1]["box"] == pytest.approx([320, 240, 480, 360], abs=2)
    assert page.locator("#boxes-images li").first.inner_text().split() == ["0000.png", "2"]


def test_a_change_that_somebody_else_made_is_not_overwritten(
    page: Any, serve: Callable[..., str], folder: Path
) -> None:
    page.goto(serve(boxes_folder=folder))
    page.get_by_text("0001.png (2 of 3)").wait_for()
    record = {"image": "0001.png", "width": 640, "height": 480, "objects": [{"name": "dog", "box": [1, 2, 30, 40]}]}
    (folder / "annotations.json").write_text(json.dumps([record]))
    page.click("#boxes-add")
    page.keyboard.type("cat")
    page.keyboard.press("Control+s")
    page.get_by_text("were changed meanwhile").wait_for()
    assert json.loads((folder / "annotations.json").read_text()) == [record]


# --- a node ----------------------------------------------------------------------------------------------------------


class FakeLive:
    """A node that has sent one frame."""

    def newest(self) -> LiveFrame:
        objects = (
            ObjectDepth("door", 0.4, 0.05, 0.9, "0.40", distance=2.5, distance_stddev=0.2),
            ObjectDepth(EVIL, 0.5, 0.3, 0.1, ""),
        )
        return LiveFrame(5_000_000_001, 0.1, "default+x", objects, jpeg((320, 240)))

    def problem(self) -> str:
        return ""

    def ask(self, question: str, objects: Sequence[ObjectQuery]) -> ProximityAnswer:
        return ProximityAnswer(question, QuestionKind.NEAREST, f"asked {question}", self.newest().objects)

    def close(self) -> None:
        """Nothing."""


def test_the_live_image(page: Any, serve: Callable[..., str]) -> None:
    page.goto(serve(live=FakeLive(), engine=None))
    watched = page.locator("#live-objects tbody tr")
    watched.first.wait_for()
    assert "0.40 ± 0.05\n2.50 ± 0.20 m" in watched.first.inner_text() and "not seen" in watched.nth(1).inner_text()
    page.wait_for_function("document.querySelector('#live-image').naturalWidth === 320")
    assert "default+x" in page.locator("#live-note").inner_text()
    page.fill("#live-question", "What is nearest?")
    page.keyboard.press("Enter")
    page.get_by_text("asked What is nearest?").wait_for()
    page.click("#live-pause")
    assert page.locator("#live-pause").get_attribute("aria-pressed") == "true"


# --- colours ---------------------------------------------------------------------------------------------------------


def luminance(colour: Sequence[float]) -> float:
    """Relative luminance of R, G, B in [0, 255], as WCAG 2 has it."""
    r, g, b = (v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: Sequence[float], b: Sequence[float]) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_can_be_read(theme: int) -> None:
    found = re.findall(r"--([\w-]+): #(\w+)", (STATIC / "style.css").read_text())
    half = len(found) // 2
    colours = {k: [int(v[i : i + 2], 16) for i in (0, 2, 4)] if len(v) == 6 else [int(c * 2, 16) for c in v]
               for k, v in found[theme * half :][:half]}  # fmt: skip
    pairs = [
        ("ink", "paper"),
        ("quiet", "paper"),
        ("quiet", "panel"),
        ("accent", "paper"),
        ("on-accent", "accent"),
        ("bad", "bad-paper"),
    ]
    assert {p: round(c, 1) for p in pairs if (c := contrast(*(colours[k] for k in p))) < 4.5} == {}


def test_labels_can_be_read(page: Any, serve: Callable[..., str]) -> None:
    page.goto(serve())
    script = """async () => { const c = await import('/colours.js');
        return [...Array(101).keys()].map((i) => [c.colourOf(i / 100), c.inkOn(i / 100)]); }"""
    for back, ink in page.evaluate(script):
        colour = [int(v) for v in re.findall(r"\d+", back)]
        assert contrast(colour, [0, 0, 0] if ink == "#000" else [255, 255, 255]) >= 4.5, back
