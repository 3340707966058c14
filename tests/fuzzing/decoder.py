"""What one decoder promises: of any bytes it makes a value within bounds, or an error of its declared kinds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from kshot.contracts.errors import KshotError
from tests.fuzzing.mutating import Stock, damage, draw_edits

_REFUSALS = frozenset({400, 413, 415, 422})
_MOST_MESSAGE = 1000


@dataclass(frozen=True)
class Decoder:
    """``decode``: bytes -> a value; asserts what is promised of it. ``samples``: valid files, all of which it must
    take. ``tokens``: words of the format. ``repair``: makes checksums and lengths of a damaged file true again, so that
    what lies behind them is reached. ``bombs``: valid as far as they go, and made to cost."""

    name: str
    decode: Callable[[bytes], object]
    samples: tuple[bytes, ...]
    tokens: tuple[bytes, ...] = ()
    repair: Callable[[bytes], bytes] | None = None
    bombs: tuple[bytes, ...] = ()
    stock: Stock = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stock", Stock(self.tokens, self.samples))

    def damaged(self, chance: Random) -> bytes:
        """An input: now and then noise or a bomb, mostly a sample with a few edits."""
        kind = chance.random()
        if kind < 0.04:
            return chance.randbytes(chance.randrange(300))
        if self.bombs and kind < 0.042:
            return chance.choice(self.bombs)
        found = damage(chance.choice(self.samples), draw_edits(chance), self.stock)
        return self.repair(found) if self.repair is not None and kind < 0.8 else found

    def input(self, seed: int, number: int) -> bytes:
        """The input of that number: the same in every run of this version."""
        return self.damaged(Random(f"{self.name}/{seed}/{number}"))

    def refusal_of(self, data: bytes) -> str | None:
        """The name of the error that it answers with, None where it takes the bytes. Anything but a refusal goes on up,
        and so does one that says more than a caller may see."""
        try:
            self.decode(data)
        except KshotError as error:
            if error.status not in _REFUSALS:
                raise
            assert len(error.message) <= _MOST_MESSAGE, "the message grows with the input"
            return type(error).__name__
        return None
