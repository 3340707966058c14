"""Named tensors in one row of numbers, cut out when they are asked for.

An adapted network is a handful of small tensors. To make each one takes longer than the network's share of a batch's
algebra, and who stacks adapted networks again, or keeps them, needs their numbers alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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

    def cut(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows (B, numbers) -> the tensors (B, ...) each, which are views."""
        found = rows.split_with_sizes([n for _, n, _ in self.places.values()], 1)
        return {name: part.view(-1, *shape) for (name, shape), part in zip(self.shapes, found, strict=True)}


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


def parts_of(stacked: Mapping[str, Tensor]) -> list[Parts]:
    """Of B networks' tensors (B, ...) each network's own, in memory of their own."""
    layout = Layout(tuple((name, tuple(tensor.shape[1:])) for name, tensor in stacked.items()))
    rows = torch.cat([tensor.flatten(1) for tensor in stacked.values()], 1)
    copies = tuple[Tensor, ...](torch.unbind_copy(rows))  # type: ignore[arg-type, func-returns-value]
    return [Parts(row, layout) for row in copies]


def blocks_of(tensors: Mapping[str, Tensor]) -> Iterable[Tensor]:
    """All numbers of named tensors, in as few pieces as they are."""
    return (tensors.row,) if isinstance(tensors, Parts) else tensors.values()


def stack_parts(networks: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor] | None:
    """Networks of one layout as tensors (B, ...) each; None where one is something else."""
    layout = networks[0].layout if isinstance(networks[0], Parts) else None
    rows = [own.row for own in networks if isinstance(own, Parts) and own.layout == layout]
    return layout.cut(torch.stack(rows)) if layout and len(rows) == len(networks) else None
