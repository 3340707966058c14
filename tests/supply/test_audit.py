"""Advisories, the bill of materials, and the command over all checks: what was not done is never called passed."""

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from supply import bom, vulnerabilities
from supply.__main__ import audit
from supply.outcome import Outcome

CLEAN = {"name": "a", "version": "1", "vulns": []}
ADVISORY = {"id": "PYSEC-1", "aliases": ["CVE-2020-1"], "fix_versions": ["2"], "description": ""}


def test_an_advisory_is_a_finding_and_an_accepted_one_is_not(monkeypatch: pytest.MonkeyPatch):
    bad = {"name": "b", "version": "1", "vulns": [ADVISORY]}
    outcome = vulnerabilities.read([CLEAN, bad])
    assert outcome.state == "failed"
    assert "b 1: PYSEC-1, fixed in 2" in outcome.said
    monkeypatch.setitem(vulnerabilities.ACCEPTED, "CVE-2020-1", "not called by us")
    assert vulnerabilities.read([CLEAN, bad]).state == "passed"


def test_a_package_that_was_not_looked_up_is_not_passed_over():
    outcome = vulnerabilities.read([CLEAN, {"name": "c", "skip_reason": "not found"}])
    assert outcome.state == "failed"
    assert "c: not found" in outcome.said


def test_without_an_index_nothing_is_audited_and_it_says_so(monkeypatch: pytest.MonkeyPatch):
    """The real pip-audit, and a proxy that nobody answers at."""
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    outcome = vulnerabilities.check()
    assert outcome.state == "not done"
    assert "nothing was audited" in outcome.said


@pytest.mark.parametrize(("state", "code"), [("passed", 0), ("not done", 0), ("failed", 1)])
def test_the_command_fails_by_findings_and_says_what_was_not_done(
    capsys: pytest.CaptureFixture[str], state: str, code: int
):
    checks: list[Callable[[], Outcome]] = [
        lambda: Outcome("first", "passed", "all well"),
        lambda: Outcome("second", state, "because"),  # type: ignore[arg-type]
    ]
    assert audit(checks) == code
    said = capsys.readouterr().out
    assert f"second: {state.upper()}. because" in said
    assert ("NOT AUDITED here: second." in said) is (state == "not done")


def test_the_bill_of_materials_holds_what_runs_and_what_depends_on_what(tmp_path: Path):
    count = bom.write(tmp_path / "sbom.json")
    bill = json.loads((tmp_path / "sbom.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "kshot"
    parts = {one["name"].lower(): one for one in bill["components"]}
    assert len(parts) == count
    assert parts["fastapi"]["version"] == metadata.version("fastapi")
    assert parts["fastapi"]["purl"] == f"pkg:pypi/fastapi@{metadata.version('fastapi')}"
    assert not {"pytest", "ruff", "bandit"} & set(parts)
    depends = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}
    assert parts["starlette"]["bom-ref"] in depends[parts["fastapi"]["bom-ref"]]
    refs = {one["bom-ref"] for one in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    assert set(depends) | {ref for refs_of in depends.values() for ref in refs_of} <= refs
