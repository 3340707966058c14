"""Which faults, when, and for how long: drawn from a seed."""

import random
from dataclasses import dataclass

KINDS = {
    "worker killed": (0.0, 3.0),
    "worker stopped past its lease": (3.5, 9.0),
    "worker told to end": (0.0, 1.0),
    "trainer killed": (0.0, 3.0),
    "trainer stopped past its lease": (3.5, 9.0),
    "training killed": (0.0, 0.0),
    "API killed": (0.0, 2.0),
    "Valkey killed": (0.0, 0.0),
    "Valkey stopped": (1.0, 10.0),
    "Valkey down, its data deleted": (0.0, 6.0),
    "Postgres killed": (0.0, 0.0),
    "Postgres's process of a connection killed": (0.0, 0.0),
    "Postgres down": (2.0, 10.0),
}
"""Kinds of faults, and how long they last, in seconds, at least and at most."""


@dataclass(frozen=True)
class Fault:
    """``at``: seconds from the start. ``hold``: seconds from the fault to its end. ``pick``: which of several is hit,
    0 to 1."""

    at: float
    kind: str
    hold: float
    pick: float


def draw(seed: int, seconds: float, every: float, longest: float = 10.0) -> list[Fault]:
    """Faults one after another, ``every`` so many seconds on average, over as many seconds. Each kind comes once before
    any comes again; they overlap where one lasts, ``longest`` at most."""
    rng = random.Random(f"faults {seed}")
    faults: list[Fault] = []
    at = rng.uniform(0, every)
    round_: list[str] = []
    while at < seconds:
        if not round_:
            round_ = rng.sample(list(KINDS), len(KINDS))
        kind = round_.pop()
        low, high = KINDS[kind]
        faults.append(Fault(at, kind, min(rng.uniform(low, min(high, longest)), seconds - at), rng.random()))
        at += rng.uniform(0.5, 1.5) * every
    return faults
