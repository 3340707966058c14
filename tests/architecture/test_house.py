"""The house rules: who imports whom, what the wheel holds, how long a file may be, what may never be called."""

import ast
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ["kshot", "service", "workers", "standalone", "migrations"]
BESIDE = ["examples", "benchmarks", "supply"]
SOURCES = [path for room in [*ROOMS, *BESIDE] for path in sorted((ROOT / room).rglob("*.py"))]


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_import_rules_hold():
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("room", BESIDE)
def test_what_does_not_ship_imports_no_application(room: str):
    for path in sorted((ROOT / room).rglob("*.py")):
        forbidden = {name for name in imported(path) if name.split(".")[0] in {"service", "workers", "standalone"}}
        assert not forbidden, f"{path.relative_to(ROOT)} imports {forbidden}"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("service.app", "torch"),
        ("kshot.contracts.api", "torch"),
        ("kshot.client", "torch"),
        ("kshot.storage.tasks", "torch"),
        ("workers.adaptation", "fastapi"),
        ("workers.trainer", "torch"),
        ("standalone.serve", "torch"),
    ],
)
def test_a_process_does_not_load_what_it_must_not(module: str, heavy: str):
    """The linter sees import statements; this sees what really gets loaded."""
    code = f"import {module}, sys; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_files_are_short_or_say_why():
    for path in SOURCES + sorted((ROOT / "tests").rglob("*.py")):
        lines = path.read_text().splitlines()
        if len(lines) > 300:
            head = ast.get_docstring(tree(path)) or ""
            assert "Longer than 300 lines because" in head, f"{path.relative_to(ROOT)} has {len(lines)} lines"


@pytest.mark.reliability("bad input: pickle or `.pt` upload", "AST")
@pytest.mark.reliability("bad input: npz bomb", "allow_pickle")
def test_nothing_from_outside_is_unpickled():
    """No pickle, and torch.load in one place alone: weights inside an installed wheel, with weights_only=True."""
    loads = []
    for path in SOURCES:
        assert not imported(path) & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}, path
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call):
                continue
            called, options = ast.unparse(node.func), {key.arg: ast.unparse(key.value) for key in node.keywords}
            if called == "torch.load":
                assert options.get("weights_only") == "True", path
                loads.append(path.relative_to(ROOT).as_posix())
            if called in {"np.load", "numpy.load"}:
                assert options.get("allow_pickle") == "False", path
    assert len(loads) == 1, loads
    assert loads[0].startswith("kshot/encoders/")


def test_the_consoles_files_are_short_and_make_no_markup_from_strings():
    """Text of callers stays text, and the policy of the pages (no inline script or style) has nothing to refuse."""
    console = ROOT / "service" / "console"
    for path in [path for kind in ("*.html", "*.js", "*.css") for path in sorted(console.rglob(kind))]:
        text = path.read_text()
        assert len(text.splitlines()) <= 300, path
        for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "|safe", "| safe"):
            assert sink not in text, f"{path.relative_to(ROOT)} holds {sink}"
        for inline in (r"<script(?![^>]* src=)", r"<style", r"<[^>]* (style|on\w+)=", r"(src|href)=\"https?:"):
            assert path.suffix != ".html" or not re.search(inline, text), f"{path.relative_to(ROOT)}: {inline}"


def test_no_attic():
    assert not [path for path in SOURCES if path.stem in {"utils", "helpers", "common", "misc"}]


def test_wheel_contains_kshot_alone(tmp_path: Path):
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
    )
    (wheel,) = tmp_path.glob("*.whl")
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"kshot"}
    (source,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        second = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert not second & {"service", "workers", "standalone", "tests"}


@pytest.mark.parametrize("room", ["training", "learners", "relations"])
def test_what_learns_follows_its_model_to_whatever_device(room: str):
    """``kshot/device.py`` chooses. To ask a tensor's device for its type is not to choose one."""
    for path in sorted((ROOT / "kshot" / room).rglob("*.py")):
        nodes = list(ast.walk(tree(path)))
        asked = {id(part) for node in nodes if isinstance(node, ast.Compare) for part in node.comparators}
        for node in nodes:
            named = isinstance(node, ast.Constant) and node.value in {"cpu", "cuda"} and id(node) not in asked
            sent = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "cuda"
            assert not named and not sent, f"{path.relative_to(ROOT)}:{node.lineno} names a device"
