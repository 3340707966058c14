"""The contestants, a module each. ``make`` turns a family's problem into work that can be done again and again.

Only kshot and flat import kshot; the others run in the peers' environment and import nothing of this project but
benchmarks.peers.networks.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor


class Work(NamedTuple):
    """``call``: does the work, which is what is timed. ``read``: what it gave -> answers or gradients by name."""

    call: Callable[[], Any]
    read: Callable[[Any], dict[str, Tensor]]
