"""Knowledge transfer between domains: a frozen source encoder, then a small learned map into the target's features."""

import numpy as np
import torch
from torch import Tensor, nn

from kshot.contracts.checkpoints import ImageInput, InputSpec
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.encoders.frozen import FrozenEncoder

_SOURCE = "source."


class Mapped(FrozenEncoder):
    """Canonical inputs of the target (n) -> g(f(x)) (n, width), f the source encoder, kept as it is.

    g(z) = P z + W2 sigma(W1 z + b1), a residual network: W2 starts at 0, and P at the identity where the width is the
    source's, so that g starts as the identity mapping (centred on the target's data if :meth:`centre_on` was called).
    ``source_input``: the input spec the source was trained with; the target's inputs are brought to that form.
    """

    def __init__(
        self, spec: InputSpec, source: Encoder, source_input: InputSpec, *, hidden: int = 256, width: int | None = None
    ) -> None:
        if spec.modality != source_input.modality or source.out_dim == 0:
            raise Invalid("a mapping needs a source of fixed width that reads the same kind of inputs")
        super().__init__(source.out_dim)
        self.spec, self.source_input = spec, source_input
        self.source = source.eval().requires_grad_(False)
        self.map = ResidualMap(source.out_dim, hidden, width or source.out_dim)
        self.out_dim = width or source.out_dim

    def train(self, mode: bool = True) -> "Mapped":
        super().train(mode)
        self.source.eval()  # its norms keep the statistics it was trained with
        return self

    def prepare(self, inputs: Inputs, device: torch.device) -> Tensor:
        return self.source.prepare(as_source(inputs, self.spec, self.source_input), device)

    def features(self, x: Tensor) -> Tensor:
        embeddings: Tensor = self.source(x)
        return embeddings

    def tune(self, features: Tensor) -> Tensor:
        embeddings: Tensor = self.map(super().tune(features))
        return embeddings

    def stored_names(self) -> set[str]:
        """The source's own stored tensors too: the checkpoint needs no other, but for what lies in wheels."""
        own = {name for name in super().stored_names() if not name.startswith(_SOURCE)}
        return own | {_SOURCE + name for name in self.source.stored_names()}


class ResidualMap(nn.Module):
    """z (n, width_in) -> P z + W2 relu(W1 z + b1) (n, width_out)."""

    def __init__(self, width_in: int, hidden: int, width_out: int) -> None:
        super().__init__()
        self.project = nn.Identity() if width_in == width_out else nn.Linear(width_in, width_out, bias=False)
        self.inner = nn.Linear(width_in, hidden)
        self.outer = nn.Linear(hidden, width_out, bias=False)
        nn.init.zeros_(self.outer.weight)

    def forward(self, z: Tensor) -> Tensor:
        mapped: Tensor = self.project(z) + self.outer(nn.functional.relu(self.inner(z)))
        return mapped


def as_source(inputs: Inputs, spec: InputSpec, source: InputSpec) -> Inputs:
    """Canonical inputs of one spec in the canonical form of another of the same modality.

    Pictures are inverted where the specs differ in it, repeated or averaged to the other number of channels, and
    scaled; a ``crop`` takes the largest centred box of the source's shape. Texts and vectors stay as they are.
    """
    if not isinstance(spec, ImageInput) or not isinstance(source, ImageInput) or isinstance(inputs, list):
        return inputs
    pictures = np.invert(inputs) if spec.invert != source.invert else inputs
    x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float()
    x = x.mean(1, keepdim=True) if source.channels < x.shape[1] else x.expand(-1, source.channels, -1, -1)
    if source.fit == "crop":
        x = _cropped(x, source.height / source.width)
    size = (source.height, source.width)
    if x.shape[2:] != size:
        x = nn.functional.interpolate(x, size, mode="bilinear", antialias=True)
    return x.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def _cropped(x: Tensor, aspect: float) -> Tensor:
    """The largest centred box of height / width = ``aspect``."""
    height, width = x.shape[2:]
    kept_height, kept_width = min(height, round(width * aspect)), min(width, round(height / aspect))
    top, left = (height - kept_height) // 2, (width - kept_width) // 2
    return x[:, :, top : top + kept_height, left : left + kept_width]
