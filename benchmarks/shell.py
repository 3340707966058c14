"""Models taught and asked from the shell: `python -m benchmarks.shell --data ../shared/data`.

Caltech-101 as class folders and BANKING77 as CSV are written to a temporary folder. `kshot adapt` and `kshot predict`
run on them as anybody would type them, against a service of the benchmark's own. Commands and what they printed go to
`benchmarks/results/shell.md`.
"""

import argparse
import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.own_service import own_service
from benchmarks.report import about

PHOTOS = ("caltech101_84/caltech101_84.zip", "caltech101_84/splits.json")
TEXTS = ("banking77/train.csv", "banking77/test.csv")
RESULTS = Path("benchmarks/results/shell.md")
_SHOWN_LINES = 6


@dataclass(frozen=True)
class Ran:
    """A command as it was typed, and what it printed."""

    typed: str
    stdout: str
    stderr: str


def write_photos(data: Path, folder: Path, shots: int, classes: int | None = None) -> None:
    """`folder/taught` and `folder/asked`: class folders of the test classes' photographs, so many and all others."""
    names = json.loads((data / PHOTOS[1]).read_text())["test"][:classes]
    with zipfile.ZipFile(data / PHOTOS[0]) as archive:
        for name in names:
            own = sorted(entry for entry in archive.namelist() if f"{name}/" in entry and entry.endswith(".jpg"))
            for place, entry in enumerate(np.random.default_rng(0).permutation(own)):
                target = folder / ("taught" if place < shots else "asked") / name / Path(entry).name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(entry))


def write_texts(data: Path, folder: Path, intents: int | None = None) -> None:
    """`folder/train.csv` and `folder/test.csv`, as published, of the first so many intents or all."""
    for file in TEXTS:
        target = folder / Path(file).name
        if intents is None:
            shutil.copy(data / file, target)
            continue
        with (data / file).open(newline="", encoding="utf-8") as opened:
            rows = list(csv.DictReader(opened))
        kept = sorted({row["category"] for row in rows})[:intents]
        with target.open("w", newline="", encoding="utf-8") as written:
            writer = csv.DictWriter(written, ["text", "category"])
            writer.writeheader()
            writer.writerows(row for row in rows if row["category"] in kept)


def run(typed: str, folder: Path, url: str) -> Ran:
    """Run a command line in a folder. Raises where it fails."""
    program, *arguments = shlex.split(typed)
    assert program == "kshot"
    environ = {key: value for key, value in os.environ.items() if key != "KSHOT_KEY"} | {"KSHOT_URL": url}
    environ["PYTHONPATH"] = str(Path.cwd())
    done = subprocess.run(
        [sys.executable, "-m", "kshot.cli", *arguments],
        cwd=folder, env=environ, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{typed} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return Ran(typed, done.stdout, done.stderr)


def model_of(adapted: Ran) -> str:
    """The id that `kshot adapt` printed."""
    return next(line.split()[1] for line in adapted.stdout.splitlines() if line.startswith("model"))


def everything(folder: Path, url: str, shots: int) -> list[Ran]:
    """The commands, one after the other."""
    photos = run("kshot adapt taught --checkpoint photos", folder, url)
    asked = run(f"kshot predict {model_of(photos)} asked", folder, url)
    chosen = run("kshot adapt taught --holdout 0.2", folder, url)
    texts = run(f"kshot adapt train.csv --checkpoint intents --shots {shots}", folder, url)
    answered = run(f"kshot predict {model_of(texts)} test.csv --output csv", folder, url)
    return [photos, asked, chosen, texts, answered]


def page(ran: list[Ran]) -> str:
    """The results as Markdown."""
    lines = ["# From the shell", "", *(f"- {name}: {value}" for name, value in about().items()), ""]
    lines += [
        "`taught` and `asked` are class folders of the 20 test classes of caltech101_84, 5 photographs each to learn "
        "from and the other 25; `train.csv` and `test.csv` are BANKING77 as published, 77 intents.", "",
    ]  # fmt: skip
    for one in ran:
        printed = one.stdout.splitlines()
        cut = [*printed[:_SHOWN_LINES], "..."] if len(printed) > 2 * _SHOWN_LINES else printed
        last = printed[-1:] if len(printed) > 2 * _SHOWN_LINES else []
        shown = [line for line in [*cut, *last, *one.stderr.splitlines()] if line]
        lines += ["```", f"$ {one.typed}", *shown, "```", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the shared data sets")
    data = parser.parse_args().data
    with tempfile.TemporaryDirectory(prefix="kshot-shell-") as name, own_service() as url:
        folder = Path(name)
        write_photos(data, folder, shots=5)
        write_texts(data, folder)
        RESULTS.write_text(page(everything(folder, url, shots=20)))
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
