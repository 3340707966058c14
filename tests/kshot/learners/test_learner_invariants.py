"""Every registered learner keeps the invariants of design/learning.md, and the checks can tell one that does not."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.checkpoints import Checkpoint
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Inputs
from kshot.learners.base import Output, State, Support
from kshot.learners.protonet import Protonet
from kshot.learners.registry import LEARNERS
from kshot.learners.state import dump_state, load_state
from tests.kshot.learners.invariants import (
    check_batch_invariance,
    check_purity,
    check_query_independence,
    check_same,
    check_support_permutation,
)
from tests.kshot.learners.learner_cases import Case, all_cases, checkpoint_of, random_task

every_case = pytest.mark.parametrize("case", all_cases(), ids=str)
seeds = st.integers(0, 2**31)
few = settings(max_examples=4, deadline=None, derandomize=True)


@every_case
def test_batch_invariance(case: Case) -> None:
    rng = np.random.default_rng(0)
    tasks = [random_task(case, rng) for _ in range(64)]
    check_batch_invariance(LEARNERS[case.learner], checkpoint_of(case), tasks)


@every_case
@few
@given(seed=seeds)
def test_query_independence(case: Case, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tasks = [random_task(case, rng) for _ in range(3)]
    check_query_independence(LEARNERS[case.learner], checkpoint_of(case, seed), tasks)


@every_case
@few
@given(seed=seeds)
def test_support_permutation(case: Case, seed: int) -> None:
    task = random_task(case, np.random.default_rng(seed))
    generator = torch.Generator().manual_seed(seed)
    check_support_permutation(LEARNERS[case.learner], checkpoint_of(case, seed), task, generator)


@every_case
@few
@given(seed=seeds)
def test_purity(case: Case, seed: int) -> None:
    rng = np.random.default_rng(seed)
    check_purity(LEARNERS[case.learner], checkpoint_of(case, seed), [random_task(case, rng) for _ in range(4)])


@every_case
def test_stored_state_answers_the_same(case: Case) -> None:
    learner, checkpoint = LEARNERS[case.learner], checkpoint_of(case)
    support, query = random_task(case, np.random.default_rng(1))
    state = learner.adapt(checkpoint, [support], LearnerOptions())[0]
    stored = load_state(dump_state(state))
    assert stored.quality == state.quality
    assert all(tensor.dtype == torch.float32 for tensor in stored.tensors.values())
    check_same(*(learner.predict(checkpoint, [s], [query])[0] for s in (stored, state)))


@every_case
def test_a_state_is_a_value(case: Case) -> None:
    """Whatever becomes of the checkpoint; and it keeps no more memory than its own numbers."""
    _check_values(case, checkpoint_of(case), LearnerOptions())


def test_weights_that_one_step_leaves_are_copied() -> None:
    case = Case("maml", "classification", "mlp")
    _check_values(case, checkpoint_of(case), LearnerOptions(inner_steps=1))


def _check_values(case: Case, checkpoint: Checkpoint, options: LearnerOptions) -> None:
    rng = np.random.default_rng(2)
    supports = [random_task(case, rng)[0] for _ in range(3)]
    states = LEARNERS[case.learner].adapt_only(checkpoint, supports, options)
    before = [dump_state(state) for state in states]
    with torch.no_grad():
        for tensor in (*checkpoint.encoder.state_dict().values(), *checkpoint.head.values()):
            tensor.add_(1)
    assert [dump_state(state) for state in states] == before
    for state in states:
        held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in state.tensors.values()}
        assert sum(held.values()) == sum(tensor.nbytes for tensor in state.tensors.values())


# --- the checks must be able to fail ---

PROTONET = Case("protonet", "classification", "conv4-batch")


def test_batch_statistics_are_detected() -> None:
    checkpoint = checkpoint_of(PROTONET)
    checkpoint.encoder.train()
    rng = np.random.default_rng(0)
    tasks = [random_task(PROTONET, rng) for _ in range(4)]
    with pytest.raises(AssertionError, match="differ by"):
        check_query_independence(Protonet(), checkpoint, tasks)
    with pytest.raises(AssertionError, match="differ by"):
        check_batch_invariance(Protonet(), checkpoint, tasks)
    with pytest.raises(AssertionError, match="left a trace"):  # running statistics moved
        check_purity(Protonet(), checkpoint, tasks)


class FirstRowOnly(Protonet):
    """Learns each class from the example that happens to come first."""

    def adapt(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        firsts = []
        for s in supports:
            first = np.array([int((s.targets == k).nonzero()[0, 0]) for k in range(s.n_way or 0)])
            assert not isinstance(s.inputs, list)
            firsts.append(Support(s.task, s.inputs[first], s.targets[first], s.n_way))
        return super().adapt(checkpoint, firsts, options)

    adapt_only = adapt


class PrefersFirstClass(Protonet):
    """Lets a class's number matter."""

    def predict(self, checkpoint: Checkpoint, states: Sequence[State], queries: Sequence[Inputs]) -> list[Output]:
        outputs = super().predict(checkpoint, states, queries)
        return [Output(logits=o.logits + torch.eye(o.logits.shape[1])[0]) for o in outputs if o.logits is not None]


class Remembers(Protonet):
    """Keeps a count on itself, which moves the scale."""

    calls = 0

    def adapt(self, checkpoint: Checkpoint, supports: Sequence[Support], options: LearnerOptions) -> list[State]:
        self.calls += 1
        states = super().adapt(checkpoint, supports, options)
        return [replace(s, tensors=s.tensors | {"scale": s.tensors["scale"] + self.calls}) for s in states]


def test_order_names_and_memory_are_detected() -> None:
    case = Case("protonet", "classification", "identity")
    rng = np.random.default_rng(3)
    tasks = [random_task(case, rng) for _ in range(4)]
    checkpoint, generator = checkpoint_of(case), torch.Generator().manual_seed(0)
    for broken in (FirstRowOnly(), PrefersFirstClass()):
        with pytest.raises(AssertionError, match=r"differ by|another class won"):
            for task in tasks:
                check_support_permutation(broken, checkpoint, task, generator)
    with pytest.raises(AssertionError, match="adapting twice differs"):
        check_purity(Remembers(), checkpoint, tasks)
