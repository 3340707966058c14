"""The wheel as a user gets it: built, installed where there is no torch, and the README's first examples run from it,
word for word."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.flow.pages import ROOT, WRITTEN_URL, runnable

pytestmark = pytest.mark.flow
SECTION = "## Teach it four sentences"
ABSENT = "import importlib.util as u; print([name for name in ('torch', 'fastapi', 'sklearn') if u.find_spec(name)])"


def command(*arguments: str | Path, **options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(list(map(str, arguments)), capture_output=True, text=True, timeout=400, **options)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that holds the wheel and what it depends on, nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    built = command(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = command(*pip, "--constraint", ROOT / "constraints.txt", wheel)
    if done.returncode and ("Connection" in done.stderr or "resolution" in done.stderr):
        pytest.skip("needs a package registry, and none is reached")
    assert done.returncode == 0, done.stderr
    return python


def examples() -> dict[str, str]:
    """The two examples of the section: ``bash`` and ``python``."""
    lines = (ROOT / "README.md").read_text().splitlines()
    start = lines.index(SECTION) + 1
    end = next(i for i, line in enumerate(lines) if i > start and line.startswith("## "))
    found = [block for block in runnable("README.md") if start <= block.line < end]
    assert [block.language for block in found] == ["bash", "python"]
    return {block.language: block.code for block in found}


def test_a_client_needs_no_torch(python: Path, tmp_path: Path):
    done = command(python, "-c", ABSENT, cwd=tmp_path)
    assert done.stdout.strip() == "[]", done.stderr
    client = command(
        python, "-c", "import kshot.client, sys; print(kshot.client.__file__, 'PIL' in sys.modules)", cwd=tmp_path
    )
    assert str(python.parent.parent) in client.stdout and client.stdout.strip().endswith("False")
    estimators = command(python, "-c", "from kshot.client import FewShotClassifier", cwd=tmp_path)
    assert "pip install kshot[sklearn]" in estimators.stderr


def test_the_python_example_runs_from_the_wheel(python: Path, page_url: str, tmp_path: Path):
    code = examples()["python"]
    statements = [line for line in code.splitlines() if line and line[0] not in " )"]
    assert len(statements) == 5, "five lines from import to prediction"
    done = command(python, "-c", code, cwd=tmp_path, env={**os.environ, "KSHOT_URL": page_url})
    assert done.returncode == 0, done.stderr
    quality, labels = done.stdout.splitlines()
    assert "leave_one_out" in quality and labels == "['refund']"


def test_the_curl_example_runs(page_url: str, tmp_path: Path):
    code = examples()["bash"].replace(WRITTEN_URL, page_url)
    done = command("bash", "-euc", code, cwd=tmp_path)
    assert done.returncode == 0 and '"label":"arrival"' in done.stdout, done.stderr


def test_types_are_there_for_users(python: Path, tmp_path: Path):
    """mypy --strict, on code of a user's own, against what the wheel holds."""
    used = tmp_path / "used.py"
    used.write_text(
        "from kshot.client import AsyncClient, Client, Job, Model\n"
        "model: Model = Client().adapt('intents', ['a'], ['b'])\n"
        "labels: list[str | int | None] = model.predict(['a']).labels\n"
        "job: Job = Client().train('letters', 'letters', steps=5).wait()\n"
        "async def ids(client: AsyncClient) -> list[str]:\n"
        "    return [one.id async for one in client.models()]\n"
        "Client().adapt('intents', ['a'])\n"
        "model.predict(['a'], topk=3)\n"
    )
    checked = command(
        sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--python-executable", python, used, cwd=tmp_path
    )
    faults = [line.partition(": error: ")[2] for line in checked.stdout.splitlines() if ": error: " in line]
    assert len(faults) == 2 and "Too few arguments" in faults[0] and "topk" in faults[1], checked.stdout
