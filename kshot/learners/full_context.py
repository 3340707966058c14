"""Full context embeddings of Matching Networks: what a row means depends on the support it is seen with.

Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016, section 2.1.2 and appendix A. ``g`` reads the
support with an LSTM in both directions, ``f`` reads the support by attention, once in each of K processing steps.
"""

from collections.abc import Mapping
from math import sqrt

import torch
from torch import Tensor

from kshot.learners.batching import Packed

FORWARD, BACKWARD, ATTENTION = "forward", "backward", "attention"
_SAME_PLACE = 1e-5  # of the places' root mean square


def full_context_head(width: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights of the three LSTMs over embeddings of ``width`` d: ``<name>_in`` (4d, d), ``<name>_bias`` (4d) and
    ``<name>_hidden`` (4d, d), or (4d, 2d) where the state is joined by what attention read."""
    head = {}
    for name, hidden in ((FORWARD, width), (BACKWARD, width), (ATTENTION, 2 * width)):
        for part, columns in (("in", width), ("hidden", hidden)):
            uniform = torch.rand(4 * width, columns, generator=generator)
            head[f"{name}_{part}"] = (2 * uniform - 1) / sqrt(width)
        head[f"{name}_bias"] = torch.zeros(4 * width)
    return head


def has_full_context(head: Mapping[str, Tensor]) -> bool:
    """Whether these meta-learned tensors hold the three LSTMs."""
    return f"{ATTENTION}_in" in head


def support_in_context(head: Mapping[str, Tensor], support: Packed) -> Tensor:
    """g(x_i, S) = forward state + backward state + x_i (appendix A.2), (B, N, d); zero in padded rows.

    An LSTM reads a sequence, a support is a set. So it is read in an order of its own that depends on the embeddings
    alone: by their projection on a fixed direction. Rows at the same place share the mean of their states, since equal
    rows of different classes would otherwise trade states when the caller trades the rows.
    """
    places = _places(support)
    order = places.argsort(dim=1, stable=True)
    sequence = _rows(support.x, order)
    real = support.rows.gather(1, order)
    states = _read(head, FORWARD, sequence, real) + _read(head, BACKWARD, sequence.flip(1), real.flip(1)).flip(1)
    back = order.argsort(1)
    together = _togetherness(places, support.rows).to(states)
    return (together @ _rows(states, back) + support.x) * support.rows.unsqueeze(2)


def query_in_context(head: Mapping[str, Tensor], query: Tensor, g: Tensor, rows: Tensor, steps: int) -> Tensor:
    """f(x, S) = h_K of the attention LSTM (eqs. 3 to 6), (B, Q, d), from queries (B, Q, d) and ``g`` (B, N, d).

    ``rows``: (B, N), True where real. Each query is read alone.
    """
    h, c = torch.zeros_like(query), torch.zeros_like(query)
    for _ in range(steps):
        attention = (h @ g.transpose(1, 2)).masked_fill(~rows.unsqueeze(1), -torch.inf).softmax(2)
        h, c = _cell(head, ATTENTION, query, torch.cat([h, attention @ g], 2), c)
        h = h + query
    return h


def _places(support: Packed) -> Tensor:
    """Where each row stands in the sequence (B, N), padded rows last."""
    x = support.x.detach().double()
    direction = torch.arange(1.0, x.shape[2] + 1, dtype=x.dtype, device=x.device).cos()
    return (x @ direction).masked_fill(~support.rows, torch.inf)


def _togetherness(places: Tensor, rows: Tensor) -> Tensor:
    """(B, N, N), a real row's weights sum to 1: shared evenly with the rows at its place, up to round-off."""
    places = places.masked_fill(~rows, 0.0)
    size = (places.square().sum(1, keepdim=True) / rows.sum(1, keepdim=True)).sqrt()
    at = places / (_SAME_PLACE * size + torch.finfo(places.dtype).tiny)
    near = (-(at.unsqueeze(2) - at.unsqueeze(1)).square()).exp() * rows.unsqueeze(1)
    return near / near.sum(2, keepdim=True).clamp(min=1)


def _rows(x: Tensor, order: Tensor) -> Tensor:
    return x.gather(1, order.unsqueeze(2).expand(-1, -1, x.shape[2]))


def _read(head: Mapping[str, Tensor], name: str, sequence: Tensor, real: Tensor) -> Tensor:
    """The states (B, N, d) of an LSTM over a sequence (B, N, d); padded steps leave it where it was, at the start."""
    h = c = torch.zeros_like(sequence[:, 0])
    states = []
    for x, here in zip(sequence.unbind(1), real.unbind(1), strict=True):
        h, c = (new * here.unsqueeze(1) for new in _cell(head, name, x, h, c))
        states.append(h)
    return torch.stack(states, 1)


def _cell(head: Mapping[str, Tensor], name: str, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM (Hochreiter and Schmidhuber 1997, with forget gate): the new state and cell."""
    gates = x @ head[f"{name}_in"].T + h @ head[f"{name}_hidden"].T + head[f"{name}_bias"]
    entering, kept, shown, fresh = gates.chunk(4, -1)
    c = kept.sigmoid() * c + entering.sigmoid() * fresh.tanh()
    return shown.sigmoid() * c.tanh(), c
