"""Ragged tasks as rectangular tensors and back: embed many at once, group by size, pad and mask, take apart."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kshot.contracts.checkpoints import TaskKind
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.learners.base import State, Support

_ROWS_PER_PASS = 256
_VECTORS_PER_PASS = 1 << 14
_NO_CLASS = -1

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Packed:
    """B tasks of one kind, padded to N rows and C outputs.

    ``x``: (B, N, ...) embeddings or prepared inputs, zero in padded rows. ``targets``: (B, N, C), one-hot for
    classification, zero in padded rows and columns. ``lengths`` and ``widths``: how many rows and outputs each task
    came with, which come first. The properties are made once, when they are asked for; those about classes mean nothing
    for values.
    """

    task: TaskKind
    x: Tensor
    targets: Tensor
    lengths: Sequence[int]
    widths: Sequence[int]

    @cached_property
    def rows(self) -> Tensor:
        """(B, N), True where real."""
        return mask(self.lengths, self.x.device)

    @cached_property
    def outputs(self) -> Tensor:
        """(B, C), True where real."""
        return mask(self.widths, self.x.device)

    @property
    def ragged_outputs(self) -> bool:
        """Whether some outputs are padding."""
        return min(self.widths) < self.targets.shape[-1]

    @cached_property
    def ways(self) -> Tensor:
        """(B, 1), the number of real outputs."""
        return self.outputs.sum(-1, keepdim=True)

    @cached_property
    def class_sizes(self) -> Tensor:
        """(B, C), how many rows each class has; 0 for padded classes."""
        return self.targets.sum(-2)

    @cached_property
    def same_class(self) -> Tensor:
        """(B, N), how many rows each row's class has, itself among them; 0 in padding."""
        return torch.bmm(self.targets, self.class_sizes.unsqueeze(2)).squeeze(2)

    @cached_property
    def several(self) -> Tensor:
        """(B, C), True for the classes of a task in which some class has two rows or more."""
        return (self.class_sizes > 1.5).any(-1, keepdim=True) & self.outputs

    @cached_property
    def even(self) -> bool:
        """Whether all rows weigh the same: none is padding, and every class has as many as the others."""
        n, width = self.targets.shape[-2:]
        if self.ragged_outputs or min(self.lengths) < n:
            return False
        return self.task == "regression" or (n % width == 0 and bool((self.class_sizes == n // width).all()))

    def holding(self, x: Tensor, targets: Tensor, rows: Tensor) -> "Packed":
        """The same tasks with other rows, those of ``x`` and ``targets`` that ``rows`` says are real."""
        other = replace(self, x=x, targets=targets)
        vars(other).update(rows=rows, even=False)  # where cached properties keep what they found
        return other


@dataclass(frozen=True)
class Embeddings:
    """Blocks of embeddings, or of prepared inputs, one after the other: ``flat`` (n, ...), the rows of each block in
    ``lengths``."""

    flat: Tensor
    lengths: list[int]

    def blocks(self) -> list[Tensor]:
        """Each block (n_i, ...)."""
        return list(torch.split(self.flat, self.lengths))

    def padded(self, group: Sequence[int]) -> Tensor:
        """The blocks of these numbers, ascending, as :func:`pad` makes them; neighbours of one length are no copy."""
        n = self.lengths[group[0]]
        if group[-1] - group[0] >= len(group) or any(self.lengths[i] != n for i in group):
            blocks = self.blocks()
            return pad([blocks[i] for i in group])
        rows = self.flat
        if len(group) < len(self.lengths):
            rows = rows.narrow(0, sum(self.lengths[: group[0]]), n * len(group))
        return rows.reshape(len(group), n, *rows.shape[1:])


def embed(encoder: Encoder, blocks: Sequence[Inputs], device: torch.device) -> list[Tensor]:
    """Each block's embeddings (n, d), as :func:`embed_all` makes them."""
    return embed_all(encoder, blocks, device).blocks()


def embed_all(encoder: Encoder, blocks: Sequence[Inputs], device: torch.device) -> Embeddings:
    """All blocks' embeddings, through as few passes of the encoder as memory allows.

    In ``train()`` mode it is a single pass, since batch statistics belong to the whole batch. Raises Invalid for an
    encoder whose norms belong to one task.
    """
    if encoder.statistic_names:
        raise Invalid("this checkpoint's encoder needs its own learner: its norms adapt too", param="options.learner")
    joined = concatenate(blocks)
    step = len(joined) if encoder.training else _rows_per_pass(joined)
    if len(joined) <= step:
        flat = encoder.embed(joined, device)
    else:
        flat = torch.cat([encoder.embed(joined[at : at + step], device) for at in range(0, len(joined), step)])
    return Embeddings(flat, [len(block) for block in blocks])


def _rows_per_pass(inputs: Inputs) -> int:
    return _ROWS_PER_PASS if isinstance(inputs, list) or inputs.ndim > 2 else _VECTORS_PER_PASS


def concatenate(blocks: Sequence[Inputs]) -> Inputs:
    """Blocks of inputs of one modality as one block, never the memory of any of them."""
    texts: list[str] = []
    arrays = []
    for block in blocks:
        if isinstance(block, list):
            texts.extend(block)
        else:
            arrays.append(block)
    return np.concatenate(arrays) if arrays else texts


def pack(supports: Sequence[Support], x: Sequence[Tensor] | Tensor) -> Packed:
    """Tasks of one kind, with one tensor (n, ...) each, padded to the largest among them; or padded already."""
    x = x if isinstance(x, Tensor) else pad(x)
    widths = [support.n_outputs for support in supports]
    targets = _targets(supports, max(widths)).to(x)
    return Packed(supports[0].task, x, targets, [support.targets.shape[0] for support in supports], widths)


def _targets(supports: Sequence[Support], width: int) -> Tensor:
    """(B, N, width): one-hot classes, or values; zero in padding."""
    targets = [support.targets for support in supports]
    if supports[0].n_way is None:
        return pad([values if values.shape[1] == width else _widened(values, width) for values in targets])
    classes = pad(targets, _NO_CLASS)
    return classes.unsqueeze(2) == torch.arange(width, device=classes.device)


def _widened(values: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, width - values.shape[1]))


def pad(blocks: Sequence[Tensor], filler: float = 0.0) -> Tensor:
    """(n_i, ...) each -> (B, max n, ...), ``filler`` after each block's rows."""
    if len({block.shape for block in blocks}) == 1:
        return torch.stack(list(blocks))
    return pad_sequence(list(blocks), batch_first=True, padding_value=filler)


def unpadded(stacked: Mapping[str, Tensor], rows: Mapping[str, Sequence[int]]) -> list[dict[str, Tensor]]:
    """Tensors of B tasks, (B, ...) each, task by task, those named in ``rows`` without their padding.

    In memory of their own: they outlive the call, and views would keep the whole batch, or be the checkpoint's weights.
    """
    parts = [_copies(tensor, rows.get(name)) for name, tensor in stacked.items()]
    return [dict(zip(stacked, own, strict=True)) for own in zip(*parts, strict=True)]


def _copies(stacked: Tensor, rows: Sequence[int] | None) -> Sequence[Tensor]:
    if rows is None or min(rows) == stacked.shape[1]:
        return tuple[Tensor, ...](torch.unbind_copy(stacked))  # type: ignore[arg-type, func-returns-value]
    return [part.clone() for part in cut(stacked, [rows])]


def cut(stacked: Tensor, sizes: Sequence[Sequence[int]]) -> Sequence[Tensor]:
    """Views of (B, N, C, ...), task by task, without padding. ``sizes``: for N, for C and so on, that of each task."""
    own: Sequence[Tensor] = stacked.unbind()
    for dimension, lengths in enumerate(sizes):
        if min(lengths) < stacked.shape[dimension + 1]:
            own = [block.narrow(dimension, 0, n) for block, n in zip(own, lengths, strict=True)]
    return own


def mask(lengths: Sequence[int], device: torch.device) -> Tensor:
    """(B, max length), True in the first ``length`` places of each row."""
    longest = max(lengths)
    if min(lengths) == longest:
        return torch.ones(len(lengths), longest, dtype=torch.bool, device=device)
    return torch.arange(longest, device=device) < torch.tensor(lengths, device=device).unsqueeze(1)


def groups(supports: Sequence[Support]) -> list[list[int]]:
    """Indices of tasks that may be padded together: one kind, alike in rows and outputs."""
    return grouped([(s.task, alike(s.targets.shape[0]), alike(s.n_outputs)) for s in supports])


def prediction_groups(states: Sequence[State], queries: Sequence[Inputs]) -> list[list[int]]:
    """Indices of adapted models that may answer together: one kind, alike in ways and number of queries."""
    return grouped([(s.task, alike(s.n_way or 0), alike(len(q))) for s, q in zip(states, queries, strict=True)])


def grouped(keys: Sequence[Hashable]) -> list[list[int]]:
    """Indices of equal keys, in order of first appearance."""
    found: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        found.setdefault(key, []).append(i)
    return list(found.values())


def in_groups(found: Sequence[list[int]], work: Callable[[list[int]], Sequence[Answer]]) -> list[Answer]:
    """What ``work`` makes of each group of indices, in the order of the indices."""
    if len(found) == 1:
        return list(work(found[0]))
    made = {i: own for group in found for i, own in zip(group, work(group), strict=True)}
    return [made[i] for i in range(len(made))]


def alike(size: int) -> int:
    """The same number for sizes within a factor of two, so that padding at most doubles the work."""
    return size.bit_length()
