"""All decoders, one after the other, and their part of the page."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fuzzing.everything import decoders
from tests.fuzzing.page import record
from tests.fuzzing.running import TAKEN, Outcome, fuzz


def fuzz_decoders(inputs: int, seed: int, only: str, out: Path, keep: Path) -> int:
    """``inputs`` in equal shares. 1 where something was found, 0 otherwise. The page is of whole runs alone."""
    chosen = [decoder for name, decoder in decoders().items() if only in name]
    share, outcomes = -(-inputs // len(chosen)), list[Outcome]()
    for decoder in chosen:
        outcomes.append(fuzz(decoder, share, seed, keep))
        print(_row(outcomes[-1]), outcomes[-1].crashes, dict(outcomes[-1].unexpected), file=sys.stderr, flush=True)
    if not only:
        record(out, "decoders", [_row(outcome) for outcome in outcomes], _figures(outcomes, seed))
    return int(any(outcome.unexpected or outcome.crashes for outcome in outcomes))


def _row(outcome: Outcome) -> dict[str, Any]:
    refused = {name: count for name, count in sorted(outcome.answers.items()) if name != TAKEN}
    return {
        "decoder": outcome.name,
        "inputs": outcome.inputs,
        "inputs/s": round(outcome.inputs / outcome.seconds),
        "mean bytes": round(outcome.n_bytes / outcome.inputs),
        "taken": outcome.answers[TAKEN],
        "refused": refused,
        "unexpected": outcome.unexpected.total(),
        "crashes": len(outcome.crashes),
        "slowest ms": outcome.slowest_ms,
        "peak MB": outcome.peak_mb,
    }


def _figures(outcomes: Sequence[Outcome], seed: int) -> dict[str, Any]:
    seconds = sum(outcome.seconds for outcome in outcomes)
    inputs = sum(outcome.inputs for outcome in outcomes)
    return {
        "seed": seed,
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "inputs": inputs,
        "seconds": seconds,
        "inputs/s": inputs / seconds,
        "unexpected exceptions": sum(outcome.unexpected.total() for outcome in outcomes),
        "crashes": sum(len(outcome.crashes) for outcome in outcomes),
        "largest peak MB": max(outcome.peak_mb for outcome in outcomes),
    }
