"""The report: one page that says everything, asks nothing of the network and reads well in a browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from mbexp.errors import UserError
from mbexp.figures.study import StoredStudy
from mbexp.report import write_report
from mbexp.report.__main__ import main
from mbexp.report.content import collect, draw_pictures, warnings_of
from mbexp.report.page import to_html
from mbexp.report.tables import MOST_ROWS, results_table
from tests.figures.figure_studies import ROOT, compared, loads, scaling

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PHONE, DESKTOP = 360, 1200


class Page(HTMLParser):
    """What a browser would fetch or run, and the text it would show."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.scripts = 0
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.scripts += tag == "script" or any(name.startswith("on") for name in values)
        for name in ("src", "srcset", "href", "data", "action", "poster", "background", "xlink:href"):
            value = values.get(name)
            if value and value.startswith("#"):
                self.targets.append(value[1:])
            elif value and not value.startswith("data:"):
                self.fetched.append(value)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if tag == "img":
            self.pictures.append(values)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(scaling(), tmp_path_factory.mktemp("report") / "report.html")


def test_nothing_outside_the_page_is_needed(report: Path) -> None:
    html = report.read_text(encoding="utf-8")
    page = Page(html)
    assert page.fetched == []
    assert page.scripts == 0
    style = "".join(re.findall(r"<style>(.*?)</style>", html, re.DOTALL))
    assert style
    assert not re.search(r"url\(|@import", style)
    assert "default-src 'none'" in html  # a browser refuses to fetch even what slips in
    for picture in page.pictures:
        svg = base64.b64decode(str(picture["src"]).partition("base64,")[2]).decode()
        references = re.findall(r"(?:xlink:href|href|src)=\"([^\"]+)\"", svg)
        assert all(reference.startswith("#") for reference in references)
        assert "<script" not in svg


def test_every_link_leads_somewhere_and_every_picture_has_words(report: Path) -> None:
    page = Page(report.read_text(encoding="utf-8"))
    assert len(page.ids) == len(set(page.ids))
    assert set(page.targets) <= set(page.ids)
    names = [spec.name for spec in StoredStudy(scaling()).drawable()]
    assert [name for name in page.ids if name in names] == names
    assert len(page.pictures) == len(names) > 5
    for picture in page.pictures:
        assert len(str(picture["alt"])) > 60
        svg = base64.b64decode(str(picture["src"]).partition("base64,")[2])
        root = ElementTree.fromstring(svg)
        assert float(root.attrib["width"].removesuffix("pt")) * 96 / 72 == pytest.approx(int(picture["width"]), abs=1)


def test_it_says_what_was_asked_found_and_made_of_what(report: Path) -> None:
    text = Page(report.read_text(encoding="utf-8")).text
    study = StoredStudy(scaling())
    assert "How many GPUs?" in text
    assert "python -m mbexp -cn gpu_scaling" in text
    assert "python -m mbexp.figures outputs/gpu_scaling" in text
    best = study.table("best").iloc[0]
    assert f"{best['num_gpus']} GPUs, K = {best['k_bins']}" in text
    assert f"sha256 {study.results['trace_sha256'].iloc[0]}" in text
    assert "no configuration tried is shown to meet the targets" in text
    assert "fitted to a generated grid" in text  # the law's provenance
    assert "calibrated to published aggregates" in text  # the workload's
    assert "num_gpus" in text
    assert "1, 4, 16" in text
    assert "cannot bind" in text  # a warning
    assert "rate_scaling: 20" in text  # the configuration


def test_numbers_in_the_table_are_those_of_the_results() -> None:
    table = results_table(StoredStudy(scaling()))
    assert table.header[:3] == ["GPUs", "Bins K", "Request-SLA violation (%)"]
    results = StoredStudy(scaling()).results
    expected = results.groupby(["num_gpus", "k_bins"])["request_sla_violation_pct"].mean()
    shown = {(int(row[0]), int(row[1])): float(row[2].split(" ±")[0]) for row in table.rows}
    assert shown == pytest.approx(expected.to_dict(), rel=6e-3)
    assert all("±" in row[2] for row in table.rows)
    grows = (results["overloaded"] | results["queue_climbing"]).groupby([results["num_gpus"], results["k_bins"]]).any()
    assert [row[-1] == "yes" for row in table.rows] == grows.tolist()
    assert grows.nunique() == 2


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures out, which take most of the time."""
    monkeypatch.setattr("mbexp.report.content.draw_pictures", lambda study: ([], []))


@pytest.mark.usefixtures("without_figures")
def test_verdicts_and_failures_are_shown(tmp_path: Path) -> None:
    folder = tmp_path / "compare"
    shutil.copytree(compared(), folder)
    info = json.loads((folder / "study.json").read_text())
    info["failures"] = [{"run": "abc", "overrides": ["num_gpus=3"], "reason": "the disk is full", "log": "x"}]
    (folder / "study.json").write_text(json.dumps(info))
    text = Page(to_html(collect(StoredStudy(folder)))).text
    assert "1 run failed:" in text
    assert "num_gpus=3" in text
    assert "the disk is full" in text
    for verdict in pd.read_csv(folder / "verdicts.csv")["verdict"]:
        assert verdict in text


@pytest.mark.usefixtures("without_figures")
def test_one_seed_is_said_to_give_no_interval() -> None:
    content = collect(StoredStudy(loads()))
    assert ("Seeds", "1, so no interval can be given") in content.summary
    assert [sentence.split(":")[0] for sentence in content.answers] == ["200 requests", "400 requests"]
    assert not any("±" in cell for table in content.tables for row in table.rows for cell in row)


def test_warnings_that_differ_in_numbers_alone_are_one() -> None:
    texts = ["load is 1.5\nother", "load is 2.25", None, "load is 3", ""]
    found = [(warning.text, warning.runs) for warning in warnings_of(pd.DataFrame({"warnings": texts}))]
    assert found == [("load is 1.5 to 3", 3), ("other", 1)]


@pytest.mark.usefixtures("without_figures")
def test_what_is_stored_is_never_taken_for_html(tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    shutil.copytree(loads(), folder)
    attack = '<script>alert(1)</script><img src="http://example.org/x.png">'
    info = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**info, "question": attack, "name": attack}))
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert page.scripts == 0
    assert page.fetched == []
    assert attack.replace('"', '"') in "".join(page.words)


def test_a_long_table_says_what_it_leaves_out(tmp_path: Path) -> None:
    folder = tmp_path / "long"
    shutil.copytree(loads(), folder)
    rows = pd.read_parquet(folder / "results.parquet")
    many = pd.concat([rows.assign(**{"scheduler.timeout_s": float(place)}) for place in range(60)])
    many.to_parquet(folder / "results.parquet")
    table = results_table(StoredStudy(folder))
    assert len(table.rows) == MOST_ROWS
    assert f"The first {MOST_ROWS} of 480 rows" in table.note


def test_a_single_run_has_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = StoredStudy(compared()).run_folder(str(StoredStudy(compared()).results["run"].iloc[0]))
    path = tmp_path / "run.html"
    assert main([str(run), "--out", str(path)]) == 0
    assert "wrote" in capsys.readouterr().out
    page = Page(path.read_text(encoding="utf-8"))
    assert page.fetched == []
    assert "latency_cdf" in page.ids
    assert "cannot bind" in page.text  # its warnings are those of its summary
    assert "GPUs, 400 requests" in page.text


@pytest.mark.usefixtures("without_figures")
def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    scaling()
    cases = {
        (str(ROOT / "gpu_scalin"),): "did you mean 'gpu_scaling'",
        (str(loads()), str(scaling()), "--out", "x.html"): "--out=x.html: goes with one folder",
        (str(loads()), "--out", str(tmp_path / "file" / "x.html")): "cannot be written",
    }
    for arguments, message in cases.items():
        assert main(list(arguments)) == 1
        told = capsys.readouterr().err
        assert message in told
        assert told.count("\n") == 1


MEASURE = """<!doctype html><body><iframe id="phone" src="{page}" style="width:{phone}px;height:900px"></iframe>
<iframe id="desktop" src="{page}" style="width:{desktop}px;height:900px"></iframe><pre id="out"></pre><script>
onload = () => {{ const out = {{}};
  for (const name of ["phone", "desktop"]) {{
    const d = document.getElementById(name).contentDocument, r = d.documentElement;
    const wide = [...d.querySelectorAll("h1,h2,h3,p,dd,li,figcaption,.paper,div.scroll,pre")];
    out[name] = {{
      overflow: r.scrollWidth - r.clientWidth,
      outside: wide.filter(e => e.getBoundingClientRect().right > r.clientWidth + 1).length,
      pictures: [...d.images].map(i => [i.complete && i.naturalWidth > 0, i.getBoundingClientRect().width]),
      small: wide.filter(e => parseFloat(getComputedStyle(e).fontSize) < 12).length,
      text: d.body.innerText.length, ink: getComputedStyle(d.body).color,
      paper: getComputedStyle(d.body).backgroundColor
    }};
  }}
  document.getElementById("out").textContent = JSON.stringify(out);
}};</script></body>"""


def browse(page: Path, folder: Path, scheme: int) -> dict[str, dict]:
    """Open the page in a headless browser at both widths and return what it looks like there."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser here (looked for {', '.join(BROWSERS)})")
    wrapper = folder / f"measure{scheme}.html"
    wrapper.write_text(MEASURE.format(page=page.as_uri(), phone=PHONE, desktop=DESKTOP), encoding="utf-8")
    command = [
        browser,
        *["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
        *["--disable-component-update", "--disable-sync", "--allow-file-access-from-files"],
        *["--virtual-time-budget=20000", "--dump-dom"],
        "--host-resolver-rules=MAP * ~NOTFOUND",  # the page must not need any other machine
        f"--blink-settings=preferredColorScheme={scheme}",
        f"--user-data-dir={folder / f'profile{scheme}'}",
        wrapper.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="out">(\{.*?\})</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(found.group(1).replace("&quot;", '"'))


def brightness(color: str) -> float:
    red, green, blue = (int(part) for part in re.findall(r"\d+", color)[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_a_browser_shows_it_at_phone_and_desktop_width(report: Path, tmp_path: Path, scheme: int) -> None:
    seen = browse(report, tmp_path, scheme)
    count = len(Page(report.read_text(encoding="utf-8")).pictures)
    for name, page in seen.items():
        assert page["overflow"] <= 0, f"{name}: the page scrolls sideways"
        assert page["outside"] == 0, f"{name}: something stands outside the page"
        assert page["small"] == 0, f"{name}: text below 12 px"
        assert len(page["pictures"]) == count
        assert all(loaded for loaded, _ in page["pictures"]), f"{name}: a picture did not load"
        assert min(width for _, width in page["pictures"]) >= 300
        assert page["text"] > 2000
        ink, paper = brightness(page["ink"]), brightness(page["paper"])
        assert (ink > paper) == (scheme == 0)
        assert abs(ink - paper) > 0.6


@pytest.mark.usefixtures("without_figures")
def test_runs_that_were_not_made_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "grid_search"
    shutil.copytree(loads(), folder)
    info = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**info, "missing": 3, "command": None}))
    page = collect(StoredStudy(folder))
    assert ("Missing", "3 runs were not made; the same command makes them") in page.summary
    assert "python -m mbexp -cn grid_search" in Page(to_html(page)).text


def test_a_figure_that_cannot_be_drawn_is_said_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    study = StoredStudy(loads())
    first, second = study.drawable()[:2]
    frame = StoredStudy.frame

    def lacking(self: StoredStudy, spec: Any) -> pd.DataFrame:
        if spec is first:
            raise UserError("a run folder is not whole")
        return frame(self, spec)

    monkeypatch.setattr(StoredStudy, "drawable", lambda self: [first, second])
    monkeypatch.setattr(StoredStudy, "frame", lacking)
    pictures, failed = draw_pictures(study)
    assert [picture.name for picture in pictures] == [second.name]
    assert failed == [(first.title, "a run folder is not whole")]
