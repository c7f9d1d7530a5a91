"""The package says of itself what is so: one version, extras that exist, Pythons and licence as the badges show."""

from __future__ import annotations

import re
import tomllib

import yaml

from mbexp.version import __version__
from tests import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_version_stands_in_one_place() -> None:
    assert "version" in PROJECT["dynamic"]
    assert "version" not in PROJECT
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_badges_are_true() -> None:
    listed = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert PROJECT["requires-python"] == f">={listed[0]},<3.{int(listed[-1].split('.')[1]) + 1}"
    assert f"badge/python-{listed[0]}_to_{listed[-1]}-" in README
    assert f"badge/licence-{PROJECT['license']}-" in README


def test_a_package_index_shows_a_readme_that_leads_nowhere_wrong() -> None:
    hook = PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    assert "readme" in PROJECT["dynamic"]
    assert hook["fragments"] == [{"path": "README.md"}]
    shown = README
    for each in hook["substitutions"]:
        shown = re.sub(each["pattern"], each["replacement"], shown)
    assert all(target.startswith("https://") for target in re.findall(r"\]\(([^)]*)\)", shown))
    assert shown.count("![") == README.count("![") - 1  # badges stay, the picture of a file goes
    assert "own log instead" in " ".join(shown.split())  # the text of a link stays


def test_every_extra_is_said_to_exist_and_how_to_install_it() -> None:
    page = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+)` \| [^|]+ \| `pip install (?:-e )?'\.\[\1\]'` \|$", page, flags=re.MULTILINE))
    assert named == set(PROJECT["optional-dependencies"]) - {"test", "lint"}  # parts of dev


def test_the_release_checks_what_it_publishes() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))["jobs"]
    assert jobs["publish"]["needs"] == "try"
    assert jobs["try"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert any("twine check --strict" in step.get("run", "") for step in jobs["build"]["steps"])
