"""The site: it is built without a warning, no link is dead, and a browser finds its way through it.

``MBEXP_SITE`` names a folder that is built already; the tests then build none.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT, site


def test_dead_links_are_seen(tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1>')
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there"></a><a href="b.html?x=1"></a><a href="#gone"></a><a href="c.html"></a>'
        '<a href="b.html#gone"></a><img src="d.png"><a href="https://example.org/"></a>'
        '<script src="https://cdn.example.org/x.js"></script>'
    )
    assert site.dead_links(tmp_path) == ["a.html: #gone", "a.html: c.html", "a.html: b.html#gone", "a.html: d.png"]
    assert site.outside_files(tmp_path) == ["a.html: https://cdn.example.org/x.js"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    if folder := os.environ.get("MBEXP_SITE"):
        return Path(folder).resolve()
    for module in ("sphinx", "furo", "myst_nb", "numpydoc", "sphinx_copybutton"):
        pytest.importorskip(module, reason=f"{module} is not installed (extra docs)")
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(target / "doctrees")]
    done = subprocess.run([*command, "docs", str(target / "html")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return target / "html"


@pytest.mark.slow
def test_no_link_of_the_site_is_dead(built: Path) -> None:
    assert len([*built.rglob("*.html")]) > 50
    assert site.dead_links(built) == []


@pytest.mark.slow
def test_the_site_needs_no_network(built: Path) -> None:
    assert site.outside_files(built) == []


@pytest.mark.slow
def test_what_the_pages_are_made_of_the_package_is_there(built: Path) -> None:
    configuration = (built / "reference" / "configuration.html").read_text()
    assert "scheduler.controller.alpha_requests" in configuration
    assert "number, &gt; 0" in configuration
    assert "h100_llama31_70b_tp8" in (built / "reference" / "gpus.html").read_text()
    assert "multi_bin_dynamic" in (built / "reference" / "schedulers.html").read_text()
    assert "predicted_tokens" in (built / "reference" / "api.html").read_text()
    assert "stored in outputs" in (built / "start.html").read_text()
    notebook = (built / "notebooks" / "first_simulation.html").read_text()
    assert len(re.findall(r'<img alt="[^"]*" src="\.\./_images/[0-9a-f]+\.png"', notebook)) >= 3  # figures, executed


@pytest.fixture(params=["served", "from disk"])
def address(built: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    if site.chromium() is None:
        pytest.skip("Chromium and chromedriver are not installed")
    pytest.importorskip("selenium", reason="selenium is not installed (extra docs)")
    if request.param == "from disk":
        yield f"{built.as_uri()}/"
        return
    with site.served(built) as url:
        yield url


def click(browser: Any, element: Any) -> None:
    """Click where a reader would, once the page has come to rest: it scrolls smoothly."""
    browser.execute_script("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", element)
    element.click()


@pytest.mark.slow
def test_a_browser_finds_its_way(address: str) -> None:
    """Front page, a guide by its link, search for a key, and what is found."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    with site.browsing() as browser:
        browser.get(f"{address}index.html")
        assert browser.find_element(By.TAG_NAME, "h1").text.startswith("mbexp")
        assert browser.execute_script("return [...document.images].every(image => image.naturalWidth > 0)")

        click(browser, browser.find_element(By.TAG_NAME, "article").find_element(By.LINK_TEXT, "My own log"))
        assert browser.find_element(By.TAG_NAME, "h1").text.startswith("How many GPUs for my log?")
        assert browser.find_elements(By.CSS_SELECTOR, "button.copybtn")

        box = browser.find_element(By.CSS_SELECTOR, ".sidebar-search")
        box.send_keys("interval_batches")
        box.send_keys(Keys.ENTER)
        click(browser, browser.find_element(By.CSS_SELECTOR, "ul.search li a"))
        assert "scheduler.controller.interval_batches" in browser.find_element(By.TAG_NAME, "article").text

        before = browser.execute_script("return document.body.dataset.theme")
        toggles = browser.find_elements(By.CSS_SELECTOR, "button.theme-toggle")
        click(browser, next(toggle for toggle in toggles if toggle.is_displayed()))
        assert browser.execute_script("return document.body.dataset.theme") != before
