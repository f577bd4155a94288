"""The page in a real browser, against a real server with the committed models."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.serving import ROOT, Server, serving

CHROMIUM = "/usr/bin/chromium"
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCREENSHOTS = ROOT / "docs" / "images"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("page"), workers=1) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """The page, opened; afterwards: nothing on its console, nothing asked of another origin."""
    opened = browser.new_page(locale="en-GB")
    complaints: list[str] = []
    foreign: list[str] = []
    opened.on(
        "console", lambda said: complaints.append(said.text) if said.type == "error" else None
    )
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "request",
        lambda asked: (
            None
            if asked.url.startswith((server.url, "data:", "blob:"))
            else foreign.append(asked.url)
        ),
    )
    opened.goto(server.url)
    expect(opened.locator("#model")).to_have_value("mnist-cnn-robust")
    yield opened
    opened.close()
    assert complaints == []
    assert foreign == []


def draw_seven(page: Page) -> None:
    box = page.locator("#pad").bounding_box()
    assert box is not None
    corners = [(0.28, 0.24), (0.72, 0.24), (0.58, 0.48), (0.46, 0.82)]
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for x, y in points[1:]:
        page.mouse.move(x, y, steps=8)
    page.mouse.up()


def drawing_of_one() -> bytes:
    """A black stroke on white, off centre, as people send them."""
    picture = Image.new("RGB", (300, 240), "white")
    ImageDraw.Draw(picture).line([(215, 40), (205, 150)], "black", 14)
    packed = io.BytesIO()
    picture.save(packed, "PNG")
    return packed.getvalue()


def hand_over(page: Page, event: str, files: list[tuple[str, bytes]]) -> None:
    """Drop or paste files, as the browser would."""
    encoded = [[name, base64.b64encode(data).decode()] for name, data in files]
    page.evaluate(
        """([kind, files]) => {
            const transfer = new DataTransfer();
            for (const [name, text] of files) {
                const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
                transfer.items.add(new File([bytes], name, { type: "image/png" }));
            }
            const made = kind === "drop"
                ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true });
            document.getElementById("drop").dispatchEvent(made);
        }""",
        [event, encoded],
    )


def test_a_seven_drawn_with_the_mouse_is_read_as_seven(page: Page) -> None:
    draw_seven(page)
    expect(page.locator("#label")).to_have_text("7")
    expect(page.locator("#decision")).to_have_text("Confident.")
    expect(page.locator("#top li")).to_have_count(3)
    assert page.locator("#seen").evaluate("image => image.naturalWidth") == 28


def test_a_dropped_black_on_white_picture_is_read(page: Page) -> None:
    hand_over(page, "drop", [("one.png", drawing_of_one())])
    expect(page.locator("#label")).to_have_text("1")


def test_a_pasted_picture_is_read(page: Page) -> None:
    hand_over(page, "paste", [("one.png", drawing_of_one())])
    expect(page.locator("#label")).to_have_text("1")


def test_many_files_become_a_gallery_where_a_bad_one_fails_alone(page: Page) -> None:
    samples = sorted((ROOT / "tests/data/mnist").glob("sample_*.png"))
    files = [(path.name, path.read_bytes()) for path in samples]
    hand_over(page, "drop", [*files, ("broken.png", b"\x89PNG\r\n\x1a\n broken")])
    expect(page.locator("#gallery li")).to_have_count(len(files) + 1)
    expect(page.locator("#gallery .error")).to_have_count(1)
    for path, text in zip(samples, page.locator("#gallery b").all_inner_texts(), strict=True):
        assert path.stem.endswith(f"_{text}")


def test_a_label_sent_from_the_page_shows_in_the_accuracy(page: Page) -> None:
    draw_seven(page)
    expect(page.locator("#label")).to_have_text("7")
    page.get_by_role("button", name="Yes, right").click()
    expect(page.locator("#thanks")).to_have_text("Thank you, noted.")
    expect(page.locator("#accuracy table").first).to_contain_text("all time")
    page.get_by_text("By class").click()
    expect(page.locator("#accuracy details tr")).to_have_count(11)
    expect(page.locator("#accuracy details tr").nth(8)).to_contain_text("100")


def test_the_page_speaks_portuguese(page: Page) -> None:
    page.locator("#language").select_option("pt")
    page.locator("#model").select_option("fashion-cnn")
    expect(page.locator("#answer-title")).to_have_text("O que é")
    expect(page.locator("#truth option").first).to_have_text("Camiseta")


def test_every_control_is_reached_by_the_keyboard_and_named(page: Page) -> None:
    draw_seven(page)
    expect(page.locator("#label")).to_have_text("7")
    named = [page.get_by_role("button", name=name) for name in ("Clear", "Yes, right", "Send")]
    named += [page.get_by_label(name) for name in ("Model", "Language", "Choose images")]
    for control in named:
        control.focus()
        expect(control).to_be_focused()
    page.get_by_role("button", name="Clear").press("Enter")
    expect(page.locator("#label")).to_have_text("–")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("kind", "width", "height"), [("wide", 1100, 900), ("narrow", 375, 812)])
def test_the_page_fits_and_is_pictured(
    page: Page, tmp_path: Path, scheme: str, kind: str, width: int, height: int
) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": height})
    draw_seven(page)
    expect(page.locator("#label")).to_have_text("7")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # The pictures in docs/ are these; copied there by `make screenshots`.
    folder = SCREENSHOTS if os.environ.get("SCREENSHOTS") == "1" else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / f"page-{kind}-{scheme}.png"
    page.screenshot(path=picture, full_page=True)
    with Image.open(picture) as drawn:
        assert drawn.size[0] == width
