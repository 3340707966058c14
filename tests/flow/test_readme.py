"""The README's examples, word for word, against the service that `make serve` runs."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.own_service import own_service

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with own_service() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A caller's folder, with the photographs the README speaks of."""
    for i, name in enumerate(["cup1", "cup2", "chair1", "chair2", "which"]):
        Image.effect_mandelbrot((96, 96), (-2 + i / 5, -1.5, 1, 1.5), 20 + i).convert("RGB").save(
            tmp_path / f"{name}.jpg"
        )
    return tmp_path


def run(language: str, block: str, url: str, folder: Path) -> str:
    code = block.replace("http://127.0.0.1:8000", url)
    assert code != block, "an example that calls no service"
    command = ["bash", "-euc", code] if language == "bash" else [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, env=os.environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def answers(block: str) -> str:
    return next(text for _, text in BLOCKS if block in text)


@pytest.mark.flow
def test_the_first_example_answers_arrival(url: str, folder: Path):
    model = json.loads(run("bash", answers('"query": {"inputs": ["my new card is late"]}'), url, folder))
    assert (model["status"], model["classes"], model["n_way"]) == ("succeeded", ["arrival", "refund"], 2)
    assert model["quality"]["method"] == "leave_one_out"
    assert model["predictions"][0]["label"] == "arrival"


@pytest.mark.flow
def test_the_python_example_answers_refund(url: str, folder: Path):
    assert run("python", answers("I was charged twice"), url, folder).startswith("refund ")


@pytest.mark.flow
def test_the_drawing_example_tells_rings_from_crosses(url: str, folder: Path):
    assert run("python", answers("def drawing("), url, folder).strip() == "['ring', 'cross']"


@pytest.mark.flow
def test_the_photo_example_takes_files(url: str, folder: Path):
    model = json.loads(run("bash", answers("support[cup]=@cup1.jpg"), url, folder))
    assert (model["status"], model["k_shot"]) == ("succeeded", {"cup": 2, "chair": 2})
    assert model["predictions"][0]["label"] in {"cup", "chair"}


@pytest.mark.flow
def test_the_numbers_example_continues_the_line(url: str, folder: Path):
    model = json.loads(run("bash", answers('"checkpoint": "vectors"'), url, folder))
    assert model["task"] == "regression"
    assert model["predictions"][0]["value"] == pytest.approx(13, abs=0.7)


def test_no_example_is_left_out():
    assert len(BLOCKS) == 5
