"""resnet12: its shape, rows that leave each other alone, and tasks side by side that are what they are alone."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from kshot.contracts.checkpoints import EncoderSpec, ImageInput
from kshot.contracts.errors import Invalid
from kshot.encoders.registry import build_encoder
from kshot.encoders.resnet12 import Norm, ResNet12

SPEC = ImageInput(height=16, width=20, channels=3)
SMALL = (8, 16, 16, 24)
CPU = torch.device("cpu")


def pictures(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 16, 20, 3), dtype=np.uint8)


def trained(norm: Norm) -> ResNet12:
    """An encoder whose norms are away from their first values."""
    torch.manual_seed(1)
    encoder = ResNet12(SPEC, widths=SMALL, norm=norm)
    with torch.no_grad():
        for name, tensor in encoder.state_dict().items():
            if tensor.ndim == 1 and not name.endswith("num_batches_tracked"):
                tensor.add_(torch.rand_like(tensor) * 0.5)
    return encoder.eval()


def test_it_has_the_layers_of_the_paper() -> None:
    """12 convolutions of 3x3 beside 4 of 1x1; 12.4 million weights, as the literature says."""
    encoder = build_encoder(EncoderSpec(name="resnet12"), ImageInput(height=84, width=84, channels=3))
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    assert [c.kernel_size[0] for c in convolutions].count(3) == 12 and len(convolutions) == 16
    assert sum(p.numel() for p in encoder.parameters()) == 12_424_320
    assert encoder.out_dim == 640


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_an_embedding_does_not_depend_on_its_neighbours(norm: Norm) -> None:
    encoder, inputs = trained(norm), pictures(6)
    together = encoder.embed(inputs, CPU)
    alone = torch.cat([encoder.embed(inputs[i : i + 1], CPU) for i in range(6)])
    assert together.shape == (6, 24)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_block_is_three_convolutions_beside_a_shortcut() -> None:
    block, x = trained("group").blocks[1], torch.randn(2, 8, 6, 6)
    convs, norms = [*block.convs, block.shortcut[0]], [*block.norms, block.shortcut[1]]
    a, b, c, short = (
        lambda x, conv=conv, norm=norm: norm(conv(x), {}, 1) for conv, norm in zip(convs, norms, strict=True)
    )
    deep = c(nn.functional.leaky_relu(b(nn.functional.leaky_relu(a(x), 0.1)), 0.1))
    added = nn.functional.leaky_relu(deep + short(x), 0.1)
    torch.testing.assert_close(block(x, {}, 1), nn.functional.max_pool2d(added, 2))


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_it_learns_to_tell_two_pictures_apart(norm: Norm) -> None:
    encoder = trained(norm).train()
    x, y = encoder.prepare(pictures(8), CPU), torch.arange(8) % 2
    optimizer = torch.optim.Adam(encoder.parameters(), 3e-3)
    losses = []
    for _ in range(15):
        loss = nn.functional.cross_entropy(encoder(x)[:, :2], y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in encoder.parameters())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_stacked_weights_equal_one_by_one(norm: Norm) -> None:
    encoder = trained(norm)
    x = encoder.prepare(pictures(6), CPU)
    x = x.reshape(2, 3, *x.shape[1:])
    models = [{n: p.detach() * (1 + 0.1 * i) for n, p in encoder.named_parameters()} for i in range(2)]
    stacked = {name: torch.stack([model[name] for model in models]) for name in models[0]}
    many = encoder.stacked(stacked, x)
    for i, model in enumerate(models):
        torch.testing.assert_close(many[i], functional_call(encoder, model, (x[i],)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (ImageInput(height=15, width=84, channels=3), {}, "16 x 16"),
        (SPEC, {"norm": "group", "widths": [60, 64]}, "multiples of 8"),
        (SPEC, {"norm": "task"}, "norms"),
    ],
)
def test_what_cannot_be_built_is_refused(spec: ImageInput, options: dict, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        build_encoder(EncoderSpec(name="resnet12", options=options), spec)
