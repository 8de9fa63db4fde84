"""The built site in a browser, without a network: `nox -s docs_browser` builds it and runs this file."""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest

import logitx as lx

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "site" / "html"
PICTURES = ROOT / "build" / "site" / "pictures"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SHOWN = ["index", "coming_from", "reference/softmax", "gallery/index", "interactive/index"]

pytestmark = [
    pytest.mark.skipif(not SITE.is_dir(), reason="the site is not built: run nox -s docs"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="Playwright is not installed: run nox -s docs_browser"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """A page of the browser that notes every error and every request to another place."""

    def __init__(self, browser: Any, address: str, width: int = 390, scheme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
        self.address = address
        self.faults: list[str] = []
        self.page.on("console", lambda message: message.type == "error" and self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("response", lambda one: one.status >= 400 and self.faults.append(f"{one.status} {one.url}"))
        self.page.route("**", self.only_here)

    def only_here(self, route: Any) -> None:
        """Answer requests for files of the site, and note and stop all others."""
        if route.request.url.startswith((self.address, "data:")):
            route.continue_()
        else:
            self.faults.append(f"asks for {route.request.url}")
            route.abort()

    def open(self, name: str) -> Any:
        self.page.goto(self.address + name, wait_until="load")
        return self.page


def pages() -> list[str]:
    return sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))


def test_every_page_opens(browser, address):
    """No error, no request to another place, no broken picture; and at 390 pixels nothing sticks out."""
    tab, wrong = Tab(browser, address), {}
    for name in pages():
        page = tab.open(name)
        broken = page.evaluate("[...document.images].filter((i) => i.complete && !i.naturalWidth).map((i) => i.src)")
        width = page.evaluate("document.documentElement.scrollWidth")
        found = [*tab.faults, *(f"broken picture {one}" for one in broken), *([f"{width} wide"] if width > 391 else [])]
        if found:
            wrong[name] = found
        tab.faults.clear()
    assert wrong == {}


def test_links_within_the_site():
    texts = {name: (SITE / name).read_text(encoding="utf-8") for name in pages()}
    anchors = {name: {unquote(one) for one in re.findall(r'\bid="([^"]+)"', text)} for name, text in texts.items()}
    wrong = []
    for name, text in texts.items():
        for link in re.findall(r'<a\b[^>]*\bhref="([^"]+)"', text):
            if urlsplit(link).scheme in ("http", "https", "mailto", "data"):
                continue
            target, anchor = urldefrag(urljoin(f"/{name}", link.replace("&amp;", "&")))
            place = unquote(urlsplit(target).path).lstrip("/") or "index.html"
            if not (SITE / place).is_file() or (anchor and place in anchors and unquote(anchor) not in anchors[place]):
                wrong.append(f"{name}: {link}")
    assert wrong == []


def test_search_finds_every_public_name(browser, address):
    tab, missing = Tab(browser, address), []
    for name in sorted(set(lx.__all__) - {"__version__"}):
        page = tab.open(f"search.html?q={name}")
        try:
            page.wait_for_selector(f"#search-results a[href*='reference/'][href$='logitx.{name}']", timeout=8000)
        except Exception as error:
            missing.append(f"{name}: {type(error).__name__}")
    assert missing == []
    assert tab.faults == []


def numbers(page: Any, selector: str) -> list[float]:
    return [float(text.split("=")[1]) for text in page.locator(selector).all_text_contents()]


def test_the_interactive_page_by_keyboard(browser, address):
    tab = Tab(browser, address, width=1100)
    page = tab.open("interactive/index.html")
    before = numbers(page, ".p")
    page.keyboard.press("Tab")  # the link to the documentation
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "track-0"
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    assert page.get_attribute("#track-0", "aria-valuenow") == "2.3"
    after = numbers(page, ".p")
    assert after[0] > before[0]
    assert abs(sum(after) - 1) < 5e-4
    assert abs(sum(numbers(page, ".slope"))) < 5e-3
    page.keyboard.press("m")
    assert numbers(page, ".p")[0] == 0
    assert page.get_attribute("#mask-0", "aria-pressed") == "true"
    assert "where=np.asarray([False, True, True, True, True])" in page.text_content("#python")
    page.keyboard.press("m")
    page.focus("#control-temperature")
    page.keyboard.press("End")
    assert "temperature=20" in page.text_content("#python")
    page.focus("#format")
    page.keyboard.press("ArrowUp")
    assert page.input_value("#format") == "float16"
    assert "no result" in page.text_content("#precision")
    page.focus("#next-A")
    before_stream = page.text_content("#values-A")
    page.keyboard.press("Enter")
    assert page.text_content("#values-A").startswith(f"{before_stream}, ")
    page.get_by_label("Set the logit of class 1 to NaN").press("Enter")
    assert "p = NaN" in page.locator(".p").all_text_contents()[1]
    page.focus("#reset")
    page.keyboard.press("Enter")
    assert numbers(page, ".p") == before
    page.focus("#copy")
    page.keyboard.press("Enter")
    page.wait_for_function("document.getElementById('copied').textContent !== ''")
    assert tab.faults == []


def test_the_interactive_page_by_mouse(browser, address):
    page = Tab(browser, address, width=1100).open("interactive/index.html")
    box = page.locator("#track-2").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20, steps=5)
    page.mouse.up()
    assert float(page.get_attribute("#track-2", "aria-valuenow")) > 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_labels(browser, address, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    serious = {}
    for name in SHOWN:
        page = Tab(browser, address, width=1100, scheme=scheme).open(f"{name}.html")
        found = axe.run(page).response["violations"]
        kept = [one for one in found if one["impact"] in ("serious", "critical")]
        serious[name] = [f"{one['id']}: {node['target']}" for one in kept for node in one["nodes"]]
        page.close()
    assert {name: found for name, found in serious.items() if found} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pictures_of_pages(browser, address, scheme, width):
    """Written for people to look at."""
    PICTURES.mkdir(exist_ok=True)
    for name in SHOWN:
        page = Tab(browser, address, width=width, scheme=scheme).open(f"{name}.html")
        file = PICTURES / f"{name.replace('/', '_')}-{width}-{scheme}.png"
        page.screenshot(path=file, full_page=True)
        assert file.stat().st_size > 10_000
        page.close()
