"""What one caller waits as the support grows from 5 to 5,000 vectors of 384 numbers, as binary bodies."""

from collections.abc import Sequence
from dataclasses import dataclass

import uvloop

from benchmarks.own_service import own_service
from benchmarks.serving.measuring import Load, closed_loop
from benchmarks.serving.workloads import adapt_tensors

SIZES = (5, 50, 500, 5000)
_WAYS = 5
_WIDTH = 384


@dataclass(frozen=True)
class Size:
    """``kilobytes``: of the body."""

    rows: int
    kilobytes: float
    load: Load


def measure(key: str, sizes: Sequence[int] = SIZES, seconds: float = 3.0) -> list[Size]:
    """A service of its own that takes supports of up to 5,000 rows (2,000 by default)."""
    with own_service(KSHOT_ADMIN_KEY=key, KSHOT_MAX_SUPPORT=str(max(sizes))) as url:
        return [_one(url, key, rows, seconds) for rows in sizes]


def _one(url: str, key: str, rows: int, seconds: float) -> Size:
    requests = adapt_tensors(key=key, shots=rows // _WAYS, width=_WIDTH, pool=2)
    load = uvloop.run(closed_loop(url, requests, 1, seconds))
    return Size(rows, len(requests(0)) / 1024, load)
