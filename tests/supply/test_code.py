"""Bandit beside ruff: what it finds, and that no check of it falls between the two."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from bandit.core.extension_loader import MANAGER

from supply import ROOT, code

NOT_WANTED = {
    "B101": "assert states what the types cannot say",
    "B404": "each call of subprocess is judged by S602 to S607; that the module is imported says no more",
}


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("import pickle", "B403"),
        ("import torch\ntorch.load('weights.pt')", "B614"),
        ("from transformers import AutoModel\nAutoModel.from_pretrained('somebody/model')", "B615"),
        ("allowed = False  # \N{RIGHT-TO-LEFT OVERRIDE}", "B613"),
    ],
)
def test_what_ruff_does_not_see_is_found(tmp_path: Path, line: str, number: str):
    (tmp_path / "planted.py").write_text(line + "\n")
    outcome = code.check([tmp_path])
    assert outcome.state == "failed"
    assert number in outcome.said


def test_a_file_that_cannot_be_read_or_a_folder_without_any_is_no_pass(tmp_path: Path):
    assert code.check([tmp_path]).state == "failed"
    (tmp_path / "broken.py").write_text("def f(:\n")
    assert "could not be read" in code.check([tmp_path]).said


def test_a_clean_file_passes(tmp_path: Path):
    (tmp_path / "clean.py").write_text("x = 1\n")
    assert code.check([tmp_path]).state == "passed"


def test_every_check_of_bandit_is_run_by_one_of_the_two_or_argued_away():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    said = subprocess.run(
        [str(Path(sys.executable).with_name("ruff")), "rule", "--all", "--output-format", "json"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    stable = {rule["code"] for rule in json.loads(said) if rule["code"] and not rule["preview"]}
    assert "S" in settings["ruff"]["lint"]["select"]
    by_ruff = {f"B{rule[1:]}" for rule in stable - set(settings["ruff"]["lint"]["ignore"]) if rule[1:].isdigit()}
    every = set(MANAGER.plugins_by_id) | {entry["id"] for kind in MANAGER.blacklist.values() for entry in kind}
    assert len(every) > 70
    assert every - by_ruff - set(NOT_WANTED) == set(settings["bandit"]["tests"]) - by_ruff
