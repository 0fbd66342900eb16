"""The pages as a browser shows them: on a phone and a wide screen, light, dark and in print."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fewlabel.metrics import Estimate
from fewlabel.metrics.report import Draw, Figure, Report
from fewlabel.report.comparison_page import comparison_of, comparison_page
from fewlabel.report.figures import STYLES
from fewlabel.report.label_curves import label_sweep
from fewlabel.report.page import Picture, write_page
from fewlabel.report.run_page import run_page
from fewlabel.run import Run

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
METRICS = ("accuracy", "intra-fid", "fid", "cas", "classifier-accuracy", "ece", "recall")
CONTRAST = """
() => {
  const light = text => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map(Number).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = element => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own) continue;
    const pair = [light(getComputedStyle(element).color), light(ground(element))].sort();
    found.push([(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), element.outerHTML]);
  }
  return found;
}
"""
"""The contrast ratio of every text with its ground (WCAG 2.2)."""
OVERFLOW = "() => document.scrollingElement.scrollWidth - innerWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    reason = "pip install -c constraints.txt -e '.[browser]', and a Chromium in the path"
    playwright = pytest.importorskip("playwright.sync_api", reason=f"no playwright: {reason}")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no Chromium: {reason}")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of a run and that of a wide comparison."""
    folder = tmp_path_factory.mktemp("pages")
    return {"run": run_report(finished_run, folder), "comparison": comparison(folder)}


def run_report(run: Run, folder: Path) -> Path:
    ways = [(scale, steps) for scale in (1.0, 2.0, 4.0) for steps in (12, 24)]
    draws = [Draw(scale, "dpm++", steps, 2 * steps, 9.0) for scale, steps in ways]
    figures = [
        Figure(scale, "dpm++", steps, metric, label, scale / 10, 0.05, 0.95)
        for scale, steps in ways
        for metric in ("accuracy", "fid")
        for label in (None, *range(10))
    ]
    report = Report(
        "r", "cg-sc-all", "0.05", 200, "judge", 0.97, 0, draws, figures, ["few samples"]
    )
    command = "fewlabel evaluate a-run-in-a-folder-with-a-long-name/of-many-words --scale 1,2,4"
    return write_page(folder / "run.html", run_page(run, folder, report, command))


def comparison(folder: Path) -> Path:
    rows = [
        {"labels": labels, "method": method, "metric": metric, "value": value}
        | {"low": 0.9 * value, "high": 1.1 * value}
        for labels in ("1/class", "0.05", "all")
        for i, method in enumerate(STYLES)
        for value, metric in itertools.product([0.3 + 0.05 * i], METRICS)
    ]
    failed = {("all", "a-method-of-ones-own"): "the loss is NaN at step 120"}
    tables = {"All figures": comparison_of(rows, METRICS, "Made up.", failed)}
    points = {n: Estimate(v := 0.9 - 1 / n, v - 0.05, v + 0.05) for n in (10, 67, 1347)}
    plot = label_sweep({"accuracy": {"cg": points, "dpt": points}}, folder / "labels.png")
    shown = {"By labels": [Picture(plot, "Made up.", "accuracy by labels")]}
    command = "fewlabel compare digits --methods " + ",".join(STYLES)
    parts = {"facts": {"data": "digits"}, "tables": tables, "figures": shown}
    page = comparison_page("Digits", "Made up.", commands=[command], **parts)  # type: ignore[arg-type]
    return write_page(folder / "comparison.html", page)


def opened(browser: Any, path: Path, width: int, scheme: str) -> tuple[Any, list[str]]:
    """The page in a window, and what it complained of or asked of others."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: faults.append(request.url))
    page.goto(path.as_uri(), wait_until="networkidle")
    faults.remove(path.as_uri())
    return page, [fault for fault in faults if not fault.startswith("data:")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["run", "comparison"])
def test_on_a_screen(
    browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    page, faults = opened(browser, pages[name], width, scheme)
    assert faults == []
    assert page.evaluate(OVERFLOW) <= 0, "the page scrolls sideways"
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) > 30
    assert min(contrasts)[0] >= 4.5, min(contrasts)
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    for image in page.query_selector_all("img"):
        assert image.evaluate("e => e.complete && e.naturalWidth > 0 && e.naturalHeight > 0")
        assert image.get_attribute("alt")
        box = image.bounding_box()
        natural = image.evaluate("e => e.naturalWidth / e.naturalHeight")
        assert box["width"] / box["height"] == pytest.approx(natural, rel=0.02)
        assert box["x"] + box["width"] <= width
    page.close()


def test_a_wide_table_scrolls_in_its_own_box(browser: Any, pages: dict[str, Path]) -> None:
    page, _ = opened(browser, pages["comparison"], 390, "light")
    box = page.query_selector(".scroll:has(.comparison)")
    assert box.evaluate("e => e.scrollWidth - e.clientWidth") > 100
    box.evaluate("e => e.scrollTo(1000, 0)")
    name = box.query_selector("tbody th[scope=row]")
    assert name.bounding_box()["x"] < 100, "the name of a row stays in sight"
    page.close()


@pytest.mark.parametrize("name", ["run", "comparison"])
def test_in_print(browser: Any, pages: dict[str, Path], name: str) -> None:
    """At 680 pixels, the width of A4 between margins of 1.5 cm."""
    page, faults = opened(browser, pages[name], 680, "dark")
    page.emulate_media(media="print")
    assert faults == []
    assert page.evaluate(OVERFLOW) <= 0, "something is cut off at the right"
    assert min(page.evaluate(CONTRAST))[0] >= 4.5
    body = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert body == "rgb(255, 255, 255)"
    hidden = "() => [...document.querySelectorAll('pre')].map(e => e.scrollWidth - e.clientWidth)"
    assert max(page.evaluate(hidden)) <= 0, "a command is cut off"
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()
