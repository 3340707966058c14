"""Texts: token-averaged static embeddings, read straight from the files of the ``wordllama`` wheel."""

from functools import cache

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from kshot.contracts.checkpoints import TextInput
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Inputs
from kshot.encoders.backbones import wheel_file
from kshot.encoders.frozen import FrozenEncoder
from kshot.encoders.random_features import RandomFeatures

_PACKAGE = "wordllama"
_PADDING = -1


class TextEncoder(FrozenEncoder):
    """Texts (a list of n) -> (n, 256 + 2 * random_features): the mean of the static embeddings of a text's tokens.

    Half of the tokens are those of the text in lower case: a capital letter alone should not move it far.
    ``random_features``: 0, or how many directions of :class:`~kshot.encoders.random_features.RandomFeatures` follow.
    """

    def __init__(self, spec: TextInput, *, random_features: int = 0) -> None:
        table = _table()
        super().__init__(table.shape[1])
        self.widen = RandomFeatures(self.out_dim, random_features) if random_features else None
        self.out_dim += 2 * random_features
        self.spec = spec
        self.backbone = nn.EmbeddingBag.from_pretrained(table, freeze=True, mode="sum")

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        """Token ids of each text as written and in lower case, int64 (n, longest), padded with -1."""
        if not isinstance(inputs, list):
            raise Invalid("expected texts")
        cut = [text[: self.spec.max_chars] for text in inputs]
        written, lower = (_token_ids(texts) for texts in (cut, [text.lower() for text in cut]))
        rows = [torch.tensor(a + b, dtype=torch.int64) for a, b in zip(written, lower, strict=True)]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=_PADDING).to(device)

    def features(self, x: Tensor) -> Tensor:
        real = (x != _PADDING).float()
        summed: Tensor = self.backbone(x.clamp(min=0), per_sample_weights=real)
        return summed / real.sum(1, keepdim=True).clamp(min=1)

    def tune(self, features: Tensor) -> Tensor:
        embeddings = super().tune(features)
        widened: Tensor = embeddings if self.widen is None else self.widen(embeddings)
        return widened


def _token_ids(texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in _tokenizer().encode_batch(texts, add_special_tokens=False)]


@cache
def _table() -> Tensor:
    """(32000, 256) float32; shared by all text encoders of the process."""
    weights = load_file(wheel_file(_PACKAGE, "weights", "l2_supercat_256.safetensors"))
    return weights["embedding.weight"].float()


@cache
def _tokenizer() -> Tokenizer:
    """The byte-pair tokenizer the table belongs to."""
    tokenizer = Tokenizer.from_file(str(wheel_file(_PACKAGE, "tokenizers", "l2_supercat_tokenizer_config.json")))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
