"""Embeddings in memory, so that an input that comes again is not embedded again: one example added to a support of
fifty pictures costs one, and a choice of checkpoint embeds nothing twice.

They stay until newer ones push them out, also when the model that brought them is deleted or expires: nothing is
written anywhere, a row is found by the digest of the very input alone and says nothing of whose it was, and every
answer is the same with it and without, up to the round-off that an embedding owes to the rows beside it in its call.

Tenants share them, so the time an answer took (`compute_ms`) may tell a caller that somebody, maybe another tenant,
sent exactly the same input not long ago; never who, nor anything of an input that the caller does not have in full.
That is accepted: one call embeds for several tenants, and does not know them.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.wire import Inputs
from kshot.contracts.worker_stats import CacheCount
from kshot.encoders.base import Encoder
from kshot.training.precompute import embeds_once
from workers.lru import ByteLru

_ENTRY_BYTES = 400
"""What Python adds to a row and its digest."""


class EmbeddingCache:
    """Rows by (checkpoint, input), the same for all callers: whoever has the input could have them computed.

    Used from the thread that computes, and from no other.
    """

    def __init__(self, capacity: int) -> None:
        self._rows: ByteLru[bytes, bytes] = ByteLru(capacity)

    def around(self, id: str, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with an encoder that remembers; itself where an input has no embedding of its own, or one that
        costs no more than its digest (vectors)."""
        if checkpoint.manifest.input.modality == "vector" or not embeds_once(checkpoint):
            return checkpoint
        return Checkpoint(checkpoint.manifest, Remembering(checkpoint.encoder, id, self).eval(), checkpoint.head)

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The rows that are known."""
        return [self._rows.get(key) for key in keys]

    def put(self, key: bytes, row: bytes) -> None:
        """Remember a row."""
        self._rows.put(key, row, len(row) + _ENTRY_BYTES)

    def counted(self) -> CacheCount:
        """How it does; from any thread, at the risk of being a moment late."""
        return self._rows.counted("embeddings", "host")


class Remembering(Encoder):
    """An encoder whose :meth:`embed` runs for inputs it has not seen, each once. Everything else is the encoder's own.

    Embeddings come without gradients, as learners that embed each input once take them.
    """

    def __init__(self, encoder: Encoder, id: str, cache: EmbeddingCache) -> None:
        super().__init__()
        self.encoder, self.out_dim, self.frozen = encoder, encoder.out_dim, encoder.frozen
        self._digest, self._cache = hashlib.sha256(id.encode()), cache

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        return self.encoder.prepare(inputs, device)

    def forward(self, x: Tensor) -> Tensor:
        embeddings: Tensor = self.encoder(x)
        return embeddings

    @torch.no_grad()
    def embed(self, inputs: Inputs, device: torch.device) -> Tensor:
        keys = self._keys(inputs)
        rows = self._cache.get(keys)
        new = {keys[i]: i for i, row in enumerate(rows) if row is None}
        if new:
            made = self.encoder.embed(_take(inputs, list(new.values())), device).float()
            found = self._remember(new, made)
            if len(new) == len(keys):
                return made
            rows = [row if row is not None else found[key] for key, row in zip(keys, rows, strict=True)]
        joined = bytearray(b"".join(row for row in rows if row is not None))
        return torch.frombuffer(joined, dtype=torch.float32).reshape(len(keys), -1).to(device)

    def _remember(self, new: dict[bytes, int], made: Tensor) -> dict[bytes, bytes]:
        block = made.cpu().contiguous().numpy()
        found = {key: row.tobytes() for key, row in zip(new, block, strict=True)}
        for key, row in found.items():
            self._cache.put(key, row)
        return found

    def _keys(self, inputs: Inputs) -> list[bytes]:
        if isinstance(inputs, list):
            return [self._key(text.encode()) for text in inputs]
        return [self._key(row.data) for row in np.ascontiguousarray(inputs)]

    def _key(self, row: bytes | memoryview) -> bytes:
        digest = self._digest.copy()
        digest.update(row)
        return digest.digest()


def _take(inputs: Inputs, places: Sequence[int]) -> Inputs:
    return [inputs[i] for i in places] if isinstance(inputs, list) else inputs[np.asarray(places)]
