"""The same weights, rates, episodes and settings give what learn2learn 0.2.0 gives, to 1e-9 in double precision.

Its answers were recorded by benchmarks/peers/record_learn2learn.py, which says how they are named.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import ImageInput, VectorInput
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Inputs
from kshot.encoders.conv4 import Conv4
from kshot.encoders.mlp import Mlp
from kshot.learners.base import Support
from kshot.learners.registry import LEARNERS
from tests.kshot.learners.double_precision import checkpoint_with, in_double

with safe_open(Path(__file__).parent / "recorded" / "learn2learn.safetensors", "pt") as file:
    RECORDED: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    RUNS: dict[str, dict[str, Any]] = json.loads(file.metadata()["header"])["runs"]

TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}
each_run = pytest.mark.parametrize("name", list(RUNS))


def below(prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in RECORDED.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class Run:
    """A recorded run as kshot's own objects; ``leaves`` are the parameters by name, ready for gradients."""

    checkpoint: Checkpoint
    leaves: Mapping[str, Tensor]
    supports: list[Support]
    queries: list[Inputs]
    targets: list[Tensor]


def rebuilt(name: str) -> Run:
    family, settings = name.split("/")[0], RUNS[name]
    spec = VectorInput(width=1) if family == "values" else ImageInput(height=32, width=32, channels=1)
    encoder = in_double(Mlp(spec) if isinstance(spec, VectorInput) else Conv4(spec, channels=8, norm="group"))
    start = below(f"{family}/start/")
    encoder.load_state_dict({n.removeprefix("encoder."): w for n, w in start.items() if n.startswith("encoder.")})
    head = {name: start[name] for name in ("weight", "bias")}
    if settings["learner"] == "metasgd":
        head |= {f"rate.{name}": rate for name, rate in below(f"{family}/rate/").items()}
    head = {name: tensor.clone().requires_grad_() for name, tensor in head.items()}
    leaves = {f"encoder.{name}": parameter for name, parameter in encoder.named_parameters()} | head
    options = {key: settings[key] for key in ("inner_steps", "inner_lr") if key in settings}
    tasks = [below(f"{family}/{t}/") for t in range(3)]
    return Run(
        checkpoint_with(encoder, head, settings["learner"], options, spec),
        leaves,
        [support_of(task["support_x"], task["support_y"]) for task in tasks],
        [task["query_x"].numpy() for task in tasks],
        [task["query_y"] for task in tasks],
    )


def support_of(x: Tensor, y: Tensor) -> Support:
    if y.ndim == 2:
        return Support("regression", x.numpy(), y)
    return Support("classification", x.numpy(), y, int(y.max()) + 1)


@each_run
def test_outer_loss_and_gradients(name: str) -> None:
    run = rebuilt(name)
    checkpoint = run.checkpoint
    loss = LEARNERS[RUNS[name]["learner"]].meta_loss(
        checkpoint.encoder, checkpoint.head, run.supports, run.queries, run.targets,
        checkpoint.manifest.learner.options,
    )  # fmt: skip
    assert loss.item() == pytest.approx(RUNS[name]["loss"], rel=1e-12)
    leaves = list(run.leaves.values())
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    expected = {key.replace("rate/", "rate."): tensor for key, tensor in below(f"{name}/gradient/").items()}
    for key, gradient in zip(run.leaves, gradients, strict=True):
        torch.testing.assert_close(gradient, expected.pop(key), **TOLERANCE, msg=lambda text, key=key: f"{key}: {text}")
    assert not expected


@each_run
def test_adapted_weights(name: str) -> None:
    run = rebuilt(name)
    states = LEARNERS[RUNS[name]["learner"]].adapt(run.checkpoint, run.supports, LearnerOptions())
    for t, state in enumerate(states):
        expected = below(f"{name}/{t}/")
        assert set(state.tensors) == set(expected)
        for key, tensor in state.tensors.items():
            torch.testing.assert_close(tensor, expected[key], **TOLERANCE)
