"""``python -m benchmarks.mutation``: change, test, note what survived. Goes on where it was when called again.

Needs cosmic-ray, which is no dependency: ``pip install --target build/cosmic-ray --no-deps cosmic-ray parso`` and
``PYTHONPATH=build/cosmic-ray``. What a test noticed once is not run again, nor what survived the same tests.
"""

import argparse
import hashlib
import json
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.mutation.copies import Servers, copy_of, running_servers
from benchmarks.mutation.mutants import mutants_of
from benchmarks.mutation.page import ARGUED, Outcome, read_arguments, write_page
from benchmarks.mutation.running import import_heavy, noticed
from benchmarks.mutation.targets import TARGETS, Target

_LEAST_LIMIT_S = 60.0
_PATIENCE = 6.0
"""A run that takes so many times as long as the one without a change hangs."""


def main() -> None:
    """Run what is asked for, then write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help="paths of modules; all where none is given")
    parser.add_argument("--notes", type=Path, default=Path("build/mutation.jsonl"), help="what was found so far")
    parser.add_argument("--page", action="store_true", help="only write the page")
    asked = parser.parse_args()
    if not asked.page:
        run([target for target in TARGETS if not asked.modules or target.module in asked.modules], asked.notes)
    write(asked.notes)


def run(targets: list[Target], notes: Path) -> None:
    """All mutants of the targets that are not in ``notes`` yet, on a copy of the last commit."""
    import_heavy()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    notes.parent.mkdir(parents=True, exist_ok=True)
    with copy_of(commit) as copy, running_servers() as servers:
        servers.migrate(copy)
        for target in targets:
            _run_target(target, copy, servers, notes)


def _run_target(target: Target, copy: Path, servers: Servers, notes: Path) -> None:
    file, log = copy / target.module, notes.with_suffix(".log")
    source, digests = file.read_text(), (_digest(copy, target.module), _digest(copy, *target.tests))
    before = {outcome.change: outcome for outcome in read_notes(notes) if outcome.module == target.module}
    known = {change for change, outcome in before.items() if _still_says(outcome, *digests)}
    left = [mutant for mutant in mutants_of(source) if mutant.change not in known]
    left.sort(key=lambda mutant: _turn(target.module, before.get(mutant.change)))
    if not left:
        return
    started = time.monotonic()
    assert noticed(copy, target.tests, servers.renewed(), 600, log) is None, f"without a change:\n{log.read_text()}"
    limit_s = max(_LEAST_LIMIT_S, _PATIENCE * (time.monotonic() - started))
    for number, mutant in enumerate(left, 1):
        file.write_text(mutant.source)
        started = time.monotonic()
        how = noticed(copy, target.tests, servers.renewed(), limit_s, log)
        seconds = round(time.monotonic() - started, 1)
        outcome = Outcome(target.module, mutant.operator, mutant.line, mutant.change, how, seconds, *digests)
        with notes.open("a") as lines:
            lines.write(json.dumps(asdict(outcome)) + "\n")
        print(f"{target.module}:{mutant.line} {number}/{len(left)} {how or 'SURVIVED'}", flush=True)
    file.write_text(source)


def write(notes: Path) -> None:
    """The page, of the last outcome of each change that can be made to today's code."""
    made = {target.module: mutants_of(Path(target.module).read_text()) for target in TARGETS}
    last = {(outcome.module, outcome.change): outcome for outcome in read_notes(notes)}
    keys = [(module, mutant.change) for module, mutants in made.items() for mutant in mutants]
    possible = {module: len(mutants) for module, mutants in made.items()}
    write_page([last[key] for key in keys if key in last], possible)


def _still_says(outcome: Outcome, source: str, tests: str) -> bool:
    """Tests grow: what they noticed before, they notice now."""
    return outcome.source == source and (outcome.noticed is not None or outcome.tests == tests)


def _turn(module: str, before: Outcome | None) -> int:
    """First comes what nothing is known of, then what survived, and last what was argued for."""
    if before is None:
        return 0
    argued = (module, before.change) in read_arguments(ARGUED)
    return 2 if before.noticed is not None else 3 if argued else 1


def _digest(copy: Path, *files: str) -> str:
    return hashlib.sha256(b"\0".join((copy / file).read_bytes() for file in files)).hexdigest()[:12]


def read_notes(notes: Path) -> list[Outcome]:
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [Outcome(**json.loads(line)) for line in lines]


if __name__ == "__main__":
    main()
