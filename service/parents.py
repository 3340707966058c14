"""The support sets of models that grew lately: who adds one photograph to fifty most often adds another one soon, and
the fifty need not be read again.

A support never changes. Whether its model still is, and whose, is asked of Postgres each time before this is.
"""

from collections import OrderedDict

from kshot.contracts.tasks import SupportSet

_WORTH_BYTES = 256 * 1024
"""Smaller ones are read as quickly."""
_MOST_BYTES = 64 * 1024 * 1024
"""Of one API process."""


class Parents:
    """By the model's id; those used last."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[str, SupportSet] = OrderedDict()
        self._bytes = 0

    def get(self, model: str) -> SupportSet | None:
        """The examples of this model, where they are kept."""
        found = self._kept.get(model)
        if found is not None:
            self._kept.move_to_end(model)
        return found

    def keep(self, model: str, support: SupportSet) -> None:
        """The examples of a model, where that is worth it; those that were used longest ago make room."""
        if model in self._kept or not _WORTH_BYTES <= support.n_bytes <= self._most:
            return
        self._kept[model] = support
        self._bytes += support.n_bytes
        while self._bytes > self._most:
            self.drop(next(iter(self._kept)))

    def drop(self, model: str) -> None:
        """A model was deleted through this process."""
        dropped = self._kept.pop(model, None)
        if dropped is not None:
            self._bytes -= dropped.n_bytes
