"""A cache bounded in bytes, which counts how it does."""

from collections import OrderedDict
from typing import Generic, TypeVar

from kshot.contracts.worker_stats import CacheCount, CacheName, Tier

K = TypeVar("K")
V = TypeVar("V")


class ByteLru(Generic[K, V]):
    """Keeps the values used last, up to ``capacity`` bytes together; one that is larger than that is not kept.

    ``hits`` and ``misses`` count what was asked of it, ``evictions`` what was dropped for newer values."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.bytes = 0
        self.hits = self.misses = self.evictions = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value, now the most recently used; None on a miss."""
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return entry[0]

    def peek(self, key: K) -> V | None:
        """The value, or None; neither counted nor used."""
        return self._entries.get(key, (None, 0))[0]

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
        self.evictions += len(dropped)
        return dropped

    def pop(self, key: K) -> V | None:
        """The value, kept no longer; None on a miss."""
        value, n_bytes = self._entries.pop(key, (None, 0))
        if value is None:
            self.misses += 1
        else:
            self.hits += 1
        self.bytes -= n_bytes
        return value

    def counted(self, cache: CacheName, tier: Tier) -> CacheCount:
        """Its account, under this name."""
        return CacheCount(
            cache=cache,
            tier=tier,
            hits=self.hits,
            misses=self.misses,
            evictions=self.evictions,
            bytes=self.bytes,
            entries=len(self),
        )
