"""The plain baseline: a linear probe on frozen features (Chen et al., "A Closer Look at Few-shot Classification", ICLR
2019, section 3.2, "Baseline").

W = argmin mean_i loss(W z_i + b, y_i) + l2/2 ||W||^2, from zero, with the cross-entropy of classes, which all weigh the
same, or half the squared error of values; z = (x - centre) / scale, one number that brings features of any magnitude to
a mean square length of 1 and keeps their proportions. Rows told apart by no more than round-off count as equal: z = 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import TaskKind
from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.learners.base import (
    NO_OPTIONS,
    Head,
    Learner,
    Output,
    State,
    Support,
    check_finite,
    check_supports,
    device_of,
    settings_of,
)
from kshot.learners.batching import Packed, alike, embed, grouped, groups, pack, pad
from kshot.learners.calibration import told_apart
from kshot.learners.folds import adapt_and_judge
from kshot.learners.inner_loop import HEAD_BIAS, HEAD_WEIGHT, linear_forward
from kshot.learners.losses import NEVER, balanced_weights

_TOLERANCE = 1e-5
_LEAST_SLOPE = 1e-12  # round-off
_MOST_STEPS = 5_000  # a guard: it takes an l2 of about 1e-6 to get there
_USUAL_L2 = 0.1  # divided by the number of rows: the evidence grows with them


class Finetune(Learner):
    """The probe is fitted in full batches, so nothing is drawn at random, and works on any encoder as it stands.

    It is not meta-trained: the baseline's point is that its features were trained without a thought of adapting. To
    make them, train the encoder with another learner; through a closed-form head the same idea is ``ridge``.
    State: ``weight`` (C, d), ``bias`` (C).
    """

    name = "finetune"
    tasks: frozenset[TaskKind] = frozenset({"classification", "regression"})
    options: frozenset[str] = frozenset({"l2"})

    def init_head(
        self,
        encoder: Encoder,
        task: TaskKind,
        n_targets: int | None,
        generator: torch.Generator,
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> dict[str, Tensor]:
        return {}

    def meta_loss(
        self,
        encoder: Encoder,
        head: Head,
        supports: Sequence[Support],
        queries: Sequence[Inputs],
        targets: Sequence[Tensor],
        options: Mapping[str, Any],
    ) -> Tensor:
        raise Invalid("finetune is not meta-trained: train the encoder with another learner", param="learner.name")

    @torch.no_grad()
    def adapt(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        check_supports(self, supports)

        def adapt(known: Checkpoint, parts: Sequence[Support]) -> list[State]:
            return self._states(known, parts, options)

        return adapt_and_judge(adapt, self.predict, checkpoint, supports, encoder_stays=True)

    @torch.no_grad()
    def adapt_only(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        check_supports(self, supports)
        return check_finite(self._states(checkpoint, supports, options))

    def _states(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        l2 = settings_of(checkpoint, options).get("l2")
        device = device_of(checkpoint.encoder, checkpoint.head)
        features = embed(checkpoint.encoder, [support.inputs for support in supports], device)
        states: dict[int, State] = {}
        for group in groups(supports):
            packed = pack([supports[i] for i in group], [features[i] for i in group])
            weight, bias = probe(packed, l2)
            for place, i in enumerate(group):
                n = supports[i].n_outputs
                tensors = {HEAD_WEIGHT: weight[place, :n].clone(), HEAD_BIAS: bias[place, :n].clone()}
                states[i] = State(supports[i].task, supports[i].n_way, tensors)
        return [states[i] for i in range(len(supports))]

    @torch.no_grad()
    def predict(self, checkpoint: Checkpoint, states: Sequence[State], queries: Sequence[Inputs]) -> list[Output]:
        features = embed(checkpoint.encoder, queries, device_of(checkpoint.encoder, checkpoint.head))
        keys = [(alike(len(s.tensors[HEAD_BIAS])), alike(len(q))) for s, q in zip(states, features, strict=True)]
        outputs: dict[int, Output] = {}
        for group in grouped(keys):
            heads = {name: pad([states[i].tensors[name] for i in group]) for name in (HEAD_WEIGHT, HEAD_BIAS)}
            for answer, i in zip(linear_forward(heads, pad([features[i] for i in group])), group, strict=True):
                own = answer[: len(features[i]), : len(states[i].tensors[HEAD_BIAS])]
                outputs[i] = Output(logits=own) if states[i].task == "classification" else Output(values=own)
        return [outputs[i] for i in range(len(states))]


def probe(packed: Packed, l2: float | None) -> tuple[Tensor, Tensor]:
    """The probes of B tasks: weight (B, C, d) and bias (B, C), on the features as they are, in their precision.

    ``l2``: the penalty; None for 0.1 / n. Computed in double precision.
    """
    share = balanced_weights(packed, torch.float64)
    x, y = packed.x.double(), packed.targets.double()
    centre = torch.einsum("bn,bnd->bd", share, x).unsqueeze(1)
    variance, size = (torch.einsum("bn,bnd->bd", share, part.square()) for part in (x - centre, x))
    apart = told_apart(variance, size)
    scale = torch.where(apart, variance.sum(1).sqrt(), 1.0)[:, None, None]
    evened = (x - centre) / scale * apart[:, None, None]
    basis = _basis(evened, packed.rows)
    z = evened @ basis
    rows = packed.rows.sum(1).double()
    penalty = torch.full_like(rows, l2) if l2 is not None else _USUAL_L2 / rows
    fit = _logistic if packed.task == "classification" else _least_squares
    coordinates, offset = fit(z, y, share, penalty, packed.outputs)
    weight = coordinates @ basis.transpose(1, 2) / scale
    bias = offset - (weight @ centre.transpose(1, 2)).squeeze(2)
    return weight.to(packed.x.dtype), bias.to(packed.x.dtype)


def _basis(z: Tensor, rows: Tensor) -> Tensor:
    """Orthonormal directions (B, d, r) that span the rows: the solution lies among them, and r = min(N, d)."""
    if z.shape[1] >= z.shape[2]:
        return torch.eye(z.shape[2], dtype=z.dtype, device=z.device).expand(len(z), -1, -1)
    basis: Tensor = torch.linalg.qr((z * rows.unsqueeze(2)).transpose(1, 2)).Q
    return basis


def _inverse(z: Tensor, share: Tensor, penalty: Tensor, curvature: float) -> Tensor:
    """(curvature sum_i share_i z_i z_i' + penalty)^-1, (B, r, r)."""
    hessian = curvature * (z * share.unsqueeze(2)).transpose(1, 2) @ z
    inverse: Tensor = torch.linalg.inv(hessian + torch.diag_embed(penalty[:, None].expand(-1, z.shape[2])))
    return inverse


def _least_squares(z: Tensor, y: Tensor, share: Tensor, penalty: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    offset = torch.einsum("bn,bnc->bc", share, y)
    moment = ((y - offset.unsqueeze(1)) * share.unsqueeze(2)).transpose(1, 2) @ z
    return moment @ _inverse(z, share, penalty, 1.0), offset


def _logistic(z: Tensor, y: Tensor, share: Tensor, penalty: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates (B, C, r) and offset (B, C), each task until its own gradient is small beside its penalty.

    Steps by the bound on the Hessian of Böhning, "Multinomial logistic regression algorithm", 1992, inverted once, with
    Nesterov's momentum, which starts anew where it points uphill: O'Donoghue, Candès, "Adaptive restart for accelerated
    gradient schemes", 2015, section 3.2.
    """
    inverse = _inverse(z, share, penalty, 0.5)
    enough = (_TOLERANCE * penalty).clamp(min=_LEAST_SLOPE)  # the optimum is at most slope / penalty away
    w = torch.zeros(len(z), y.shape[2], z.shape[2], dtype=z.dtype, device=z.device)
    b = torch.zeros_like(w[:, :, 0])
    ahead, b_ahead, age = w, b, torch.ones_like(penalty)
    moves = torch.ones_like(penalty, dtype=torch.bool)
    for _ in range(_MOST_STEPS):
        logits = z @ ahead.transpose(1, 2) + b_ahead.unsqueeze(1)
        errors = (logits.masked_fill(~outputs.unsqueeze(1), NEVER).softmax(2) - y) * share.unsqueeze(2)
        slope, b_slope = errors.transpose(1, 2) @ z + penalty[:, None, None] * ahead, errors.sum(1)
        step, b_step = ahead - slope @ inverse - w, b_ahead - 2 * b_slope - b
        step, b_step = step * moves[:, None, None], b_step * moves[:, None]
        w, b = w + step, b + b_step
        moves = moves & ((slope.square().sum((1, 2)) + b_slope.square().sum(1)).sqrt() > enough)
        if not bool(moves.any()):
            break
        uphill = (slope * step).sum((1, 2)) + (b_slope * b_step).sum(1) > 0
        older = (1 + (1 + 4 * age.square()).sqrt()) / 2
        momentum = torch.where(uphill, 0.0, (age - 1) / older)
        age = torch.where(uphill, 1.0, older)
        ahead, b_ahead = w + momentum[:, None, None] * step, b + momentum[:, None] * b_step
    return w, b
