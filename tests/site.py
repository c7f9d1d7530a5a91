"""What the tests of the built site use: links that lead nowhere, a server of the folder, a browser without a window."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote


class Page(HTMLParser):
    """The links of a page and the names that links can lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.names.add(value)
            elif name in ("href", "src") and value and tag != "base":
                self.links.append(value)


def dead_links(folder: Path) -> list[str]:
    """Return the links between the files of a built site that lead nowhere, as ``page: link``.

    A link that needs the network to show a page (a script, a style, a picture) is dead as well.
    """
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    dead = []
    for path, page in pages.items():
        for link in page.links:
            target, _, name = link.partition("#")
            if target.startswith(("http:", "https:", "mailto:", "data:")):
                continue
            file = (path.parent / unquote(target.partition("?")[0])).resolve() if target else path.resolve()
            found = pages.get(file)
            if not file.is_file() or (name and found is not None and unquote(name) not in found.names):
                dead.append(f"{path.relative_to(folder)}: {link}")
    return dead


def outside_files(folder: Path) -> list[str]:
    """Return what the pages of a built site load from elsewhere, as ``page: address``."""
    found = []
    for path in sorted(folder.rglob("*.html")):
        finder = Loads(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(folder)}: {address}" for address in finder.found]
    return found


class Loads(HTMLParser):
    """The addresses on the network that a page loads from when it is shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get("href" if tag == "link" else "src") or ""
        if tag in ("script", "img", "link", "iframe", "source") and address.startswith(("http:", "https:", "//")):
            self.found.append(address)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder as ``python -m http.server`` does; yield its address."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            address = f"http://127.0.0.1:{server.stdout.readline().split(' port ')[1].split()[0]}/"
            for _ in range(50):
                with contextlib.suppress(urllib.error.URLError):
                    urllib.request.urlopen(address, timeout=5).close()
                    break
                time.sleep(0.1)
            yield address
        finally:
            server.terminate()


def chromium() -> tuple[str, str] | None:
    """Return Chromium and its driver, where both are at hand."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextlib.contextmanager
def browsing(width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Any]:
    """Yield a Chromium without a window, driven by Selenium, that reaches no other machine."""
    from selenium import webdriver

    found = chromium()
    assert found is not None
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    arguments += [f"--window-size={width},{height}", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
    for argument in arguments + (["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(found[1]))
    try:
        driver.set_page_load_timeout(60)
        driver.implicitly_wait(10)
        yield driver
    finally:
        driver.quit()
