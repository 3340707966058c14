"""A cache bounded in bytes."""

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class ByteLru(Generic[K, V]):
    """Keeps the values used last, up to ``capacity`` bytes together; one that is larger than that is not kept."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value, now the most recently used; None on a miss."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, n_bytes: int) -> list[tuple[K, V]]:
        """Keep a value. Returns those unused longest, which were dropped for it."""
        if n_bytes > self._capacity:
            return [(key, value)]
        _, before = self._entries.pop(key, (None, 0))
        self._entries[key] = (value, n_bytes)
        self.bytes += n_bytes - before
        dropped = []
        while self.bytes > self._capacity:
            old, (gone, freed) = self._entries.popitem(last=False)
            self.bytes -= freed
            dropped.append((old, gone))
        return dropped

    def pop(self, key: K) -> V | None:
        """The value, kept no longer; None on a miss."""
        value, n_bytes = self._entries.pop(key, (None, 0))
        self.bytes -= n_bytes
        return value
