"""Named tensors in one row of numbers, cut out when they are asked for.

An adapted network is a handful of small tensors. To make each one takes longer than the network's share of a batch's
algebra, and who stacks adapted networks again, or keeps them, needs their numbers alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

import torch
from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """The shape of each of the tensors whose numbers follow one another in a row."""

    shapes: tuple[tuple[str, Shape], ...]

    @cached_property
    def places(self) -> dict[str, tuple[int, int, Shape]]:
        """Where each begins, how many numbers it has, and its shape."""
        sizes = [torch.Size(shape).numel() for _, shape in self.shapes]
        starts = accumulate(sizes, initial=0)
        return {name: (start, n, shape) for (name, shape), n, start in zip(self.shapes, sizes, starts, strict=False)}


@lru_cache(256)
def _layout(shapes: tuple[tuple[str, Shape], ...]) -> Layout:
    """One object for one layout, so that networks are quickly told apart."""
    return Layout(shapes)


class Parts(Mapping[str, Tensor]):
    """The tensors that one row of numbers holds, by name."""

    __slots__ = ("layout", "row")

    def __init__(self, row: Tensor, layout: Layout) -> None:
        self.row, self.layout = row, layout

    def __getitem__(self, name: str) -> Tensor:
        start, n, shape = self.layout.places[name]
        return self.row.narrow(0, start, n).view(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.places)

    def __len__(self) -> int:
        return len(self.layout.places)


@dataclass(frozen=True)
class Stack:
    """B networks of one layout: ``rows`` (B, numbers)."""

    rows: Tensor
    layout: Layout

    def tensors(self) -> dict[str, Tensor]:
        """The tensors (B, ...) each, which are views."""
        found = self.rows.split_with_sizes([n for _, n, _ in self.layout.places.values()], 1)
        named = zip(self.layout.shapes, found, strict=True)
        return {name: part.view(len(self.rows), *shape) for (name, shape), part in named}

    def separate(self) -> list[Parts]:
        """Each network, in memory of its own."""
        rows = tuple[Tensor, ...](torch.unbind_copy(self.rows))  # type: ignore[arg-type, func-returns-value]
        return [Parts(row, self.layout) for row in rows]


def in_rows(stacked: Mapping[str, Tensor]) -> Stack:
    """B networks' tensors (B, ...), copied into rows."""
    layout = _layout(tuple((name, tensor.shape[1:]) for name, tensor in stacked.items()))
    return Stack(torch.cat([tensor.reshape(len(tensor), -1) for tensor in stacked.values()], 1), layout)


def joined(networks: Sequence[Mapping[str, Tensor]]) -> Stack | None:
    """Networks of one layout; None where one has another, or tensors of its own."""
    parts = [own for own in networks if type(own) is Parts]
    layout = parts[0].layout if parts else None
    if layout is None or len(parts) < len(networks) or any(own.layout is not layout for own in parts):
        return None
    return Stack(torch.stack([own.row for own in parts]), layout)


def blocks_of(tensors: Mapping[str, Tensor]) -> Iterable[Tensor]:
    """All numbers of named tensors, in as few pieces as they are."""
    return (tensors.row,) if isinstance(tensors, Parts) else tensors.values()
