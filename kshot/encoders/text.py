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

_PACKAGE = "wordllama"
_PADDING = -1


class TextEncoder(FrozenEncoder):
    """Texts (a list of n) -> (n, 256): the mean of the static embeddings of a text's tokens."""

    def __init__(self, spec: TextInput) -> None:
        table = _table()
        super().__init__(table.shape[1])
        self.spec = spec
        self.backbone = nn.EmbeddingBag.from_pretrained(table, freeze=True, mode="sum")

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        """Token ids, int64 (n, longest), padded with -1."""
        if not isinstance(inputs, list):
            raise Invalid("expected texts")
        encodings = _tokenizer().encode_batch(
            [text[: self.spec.max_chars] for text in inputs], add_special_tokens=False
        )
        rows = [torch.tensor(encoding.ids, dtype=torch.int64) for encoding in encodings]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=_PADDING).to(device)

    def features(self, x: Tensor) -> Tensor:
        real = (x != _PADDING).float()
        summed: Tensor = self.backbone(x.clamp(min=0), per_sample_weights=real)
        return summed / real.sum(1, keepdim=True).clamp(min=1)


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
