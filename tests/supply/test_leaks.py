"""Secrets in the work tree: found when new, known when somebody looked at them."""

import json
import subprocess
from pathlib import Path

import pytest

from kshot.storage.access import generate_secret
from supply import ROOT, leaks


def work_tree(folder: Path, text: str) -> Path:
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    (folder / "settings.py").write_text(text)
    return folder


@pytest.mark.parametrize(
    "secret",
    [
        generate_secret(),
        "AKIA" + "QYLPMN5HHHFPZAM2",
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "postgresql://kshot:" + "hunter2hunter2" + "@db.example.com/kshot",
    ],
    ids=["a key of ours", "a cloud's key", "a private key", "a password in a URL"],
)
def test_a_secret_is_found_before_it_is_committed(tmp_path: Path, secret: str):
    outcome = leaks.check(work_tree(tmp_path, f'VALUE = "{secret}"\n'))
    assert outcome.state == "failed"
    assert "settings.py:1 " in outcome.said
    assert secret not in outcome.said


def test_a_tree_without_secrets_passes_and_one_without_files_does_not(tmp_path: Path):
    assert leaks.check(work_tree(tmp_path, "VALUE = 1\n")).state == "passed"
    (tmp_path / "settings.py").unlink()
    assert leaks.check(tmp_path).state == "failed"


def test_a_folder_that_git_does_not_know_is_not_called_clean(tmp_path: Path):
    (tmp_path / "settings.py").write_text("VALUE = 1\n")
    assert leaks.check(tmp_path).state == "not done"


def test_whatever_the_baseline_holds_has_been_looked_at_and_is_still_there():
    for file, entries in json.loads(leaks.BASELINE.read_text())["results"].items():
        assert (ROOT / file).is_file(), f"{file} is gone: make secrets"
        for entry in entries:
            assert entry.get("is_secret") is False, f"{file}:{entry['line_number']}: nobody marked it"
