"""Ragged tasks as rectangular tensors: embed many at once, group by size, pad and mask."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Packed:
    """B tasks of one kind, padded to N rows and C outputs.

    ``x``: (B, N, ...) embeddings or prepared inputs, zero in padded rows. ``targets``: (B, N, C), one-hot for
    classification, zero in padded rows and columns. ``rows``: (B, N) and ``outputs``: (B, C), True where real.
    """

    task: TaskKind
    x: Tensor
    targets: Tensor
    rows: Tensor
    outputs: Tensor


def embed(encoder: Encoder, blocks: Sequence[Inputs], device: torch.device) -> list[Tensor]:
    """Each block's embeddings (n, d), through as few passes of the encoder as memory allows.

    In ``train()`` mode it is a single pass, since batch statistics belong to the whole batch. Raises Invalid for an
    encoder whose norms belong to one task.
    """
    if encoder.statistic_names:
        raise Invalid("this checkpoint's encoder needs its own learner: its norms adapt too", param="options.learner")
    joined = concatenate(blocks)
    step = len(joined) if encoder.training else _ROWS_PER_PASS
    passes = [encoder.embed(joined[start : start + step], device) for start in range(0, len(joined), step)]
    return list(torch.split(torch.cat(passes), [len(block) for block in blocks]))


def concatenate(blocks: Sequence[Inputs]) -> Inputs:
    """Blocks of inputs of one modality as one block."""
    texts: list[str] = []
    arrays = []
    for block in blocks:
        if isinstance(block, list):
            texts.extend(block)
        else:
            arrays.append(block)
    return np.concatenate(arrays) if arrays else texts


def pack(supports: Sequence[Support], x: Sequence[Tensor]) -> Packed:
    """Tasks of one kind, with one tensor (n, ...) each, padded to the largest among them."""
    device, dtype = x[0].device, x[0].dtype
    width = max(support.n_outputs for support in supports)
    targets = [_columns(support, width).to(device, dtype) for support in supports]
    return Packed(
        task=supports[0].task,
        x=pad(x),
        targets=pad(targets),
        rows=mask([len(support.targets) for support in supports], device),
        outputs=mask([support.n_outputs for support in supports], device),
    )


def _columns(support: Support, width: int) -> Tensor:
    if support.n_way is not None:
        return torch.nn.functional.one_hot(support.targets, width)
    return torch.nn.functional.pad(support.targets, (0, width - support.targets.shape[1]))


def pad(blocks: Sequence[Tensor]) -> Tensor:
    """(n_i, ...) each -> (B, max n, ...), zeros after each block's rows."""
    return pad_sequence(list(blocks), batch_first=True)


def mask(lengths: Iterable[int], device: torch.device) -> Tensor:
    """(B, max length), True in the first ``length`` places of each row."""
    counts = torch.tensor(list(lengths), device=device)
    return torch.arange(int(counts.max()), device=device) < counts[:, None]


def groups(supports: Sequence[Support]) -> list[list[int]]:
    """Indices of tasks that may be padded together: one kind, alike in rows and outputs."""
    return grouped([(s.task, alike(len(s.targets)), alike(s.n_outputs)) for s in supports])


def prediction_groups(states: Sequence[State], queries: Sequence[Inputs]) -> list[list[int]]:
    """Indices of adapted models that may answer together: one kind, alike in ways and number of queries."""
    return grouped([(s.task, alike(s.n_way or 0), alike(len(q))) for s, q in zip(states, queries, strict=True)])


def grouped(keys: Sequence[Hashable]) -> list[list[int]]:
    """Indices of equal keys, in order of first appearance."""
    found: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        found.setdefault(key, []).append(i)
    return list(found.values())


def alike(size: int) -> int:
    """The same number for sizes within a factor of two, so that padding at most doubles the work."""
    return size.bit_length()
