"""The invariants of design/learning.md as checks on any learner. Each raises AssertionError where it does not hold."""

from dataclasses import replace

import torch
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Inputs
from kshot.learners.base import Learner, Output, Support
from kshot.learners.batching import concatenate
from kshot.learners.state import dump_state
from tests.kshot.learners.learner_cases import numbers

TOLERANCE = 1e-4
Task = tuple[Support, Inputs]


def answers(learner: Learner, checkpoint: Checkpoint, tasks: list[Task]) -> list[Output]:
    """Without the quality of learners that adapt again for it: test_folds.py looks at that."""
    states = learner.adapt_only(checkpoint, [support for support, _ in tasks], LearnerOptions())
    return learner.predict(checkpoint, states, [query for _, query in tasks])


def check_batch_invariance(learner: Learner, checkpoint: Checkpoint, tasks: list[Task]) -> None:
    """1. A task's answer is the one it gets alone."""
    for task, together in zip(tasks, answers(learner, checkpoint, tasks), strict=True):
        alone = answers(learner, checkpoint, [task])[0]
        # Reptile adapts with Adam, which at the edge of a ReLU makes a whole step of round-off
        check_same(together, alone, shared=learner.name != "reptile")


def check_query_independence(learner: Learner, checkpoint: Checkpoint, tasks: list[Task]) -> None:
    """2. A query's answer does not depend on the queries beside it: one by one, or among the queries of other tasks."""
    states = learner.adapt_only(checkpoint, [support for support, _ in tasks], LearnerOptions())
    crowd = concatenate([query for _, query in tasks])
    for state, (_, query) in zip(states, tasks, strict=True):
        together = numbers(learner.predict(checkpoint, [state], [query])[0])
        alone = [numbers(learner.predict(checkpoint, [state], [query[i : i + 1]])[0]) for i in range(len(query))]
        check_close(together, torch.cat(alone))
        crowded = numbers(learner.predict(checkpoint, [state], [concatenate([query, crowd])])[0])
        check_close(together, crowded[: len(query)])


def check_support_permutation(learner: Learner, checkpoint: Checkpoint, task: Task, generator: torch.Generator) -> None:
    """3. The order of the rows changes nothing; renaming classes or moving targets does so to the answer."""
    support, query = task
    original = answers(learner, checkpoint, [task])[0]
    order = torch.randperm(len(support.targets), generator=generator)
    assert not isinstance(support.inputs, list)
    shuffled = replace(support, inputs=support.inputs[order.numpy()], targets=support.targets[order])
    check_same(answers(learner, checkpoint, [(shuffled, query)])[0], original)
    if support.n_way is not None:
        names = torch.randperm(support.n_way, generator=generator)
        renamed = Support(support.task, support.inputs, names[support.targets], support.n_way)
        answer, expected = answers(learner, checkpoint, [(renamed, query)])[0].logits, original.logits
        assert answer is not None
        assert expected is not None
        check_close(answer[:, names], expected)
    if support.columns:
        places = torch.randperm(len(support.columns), generator=generator).tolist()
        moved = replace(support, targets=support.targets[:, places], columns=tuple(support.columns[i] for i in places))
        answer_columns = answers(learner, checkpoint, [(moved, query)])[0].columns
        for column, place in zip(answer_columns, places, strict=True):
            check_same(column, original.columns[place])


def check_purity(learner: Learner, checkpoint: Checkpoint, tasks: list[Task]) -> None:
    """4. The same call gives the same bytes, and leaves checkpoint, learner and inputs as they were."""
    supports, queries = [support for support, _ in tasks], [query for _, query in tasks]
    before = _fingerprint(learner, checkpoint, tasks)
    states = learner.adapt(checkpoint, supports, LearnerOptions(seed=3))
    first = [numbers(output) for output in learner.predict(checkpoint, states, queries)]
    second = [numbers(output) for output in learner.predict(checkpoint, states, queries)]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)), "predicting twice differs"
    again = learner.adapt(checkpoint, supports, LearnerOptions(seed=3))
    assert [dump_state(s) for s in states] == [dump_state(s) for s in again], "adapting twice differs"
    assert _fingerprint(learner, checkpoint, tasks) == before, "a call left a trace"


def _fingerprint(learner: Learner, checkpoint: Checkpoint, tasks: list[Task]) -> list[bytes | str]:
    tensors = [*checkpoint.encoder.state_dict().values(), *checkpoint.head.values()]
    tensors += [support.targets for support, _ in tasks]
    arrays = [inputs for support, query in tasks for inputs in (support.inputs, query) if not isinstance(inputs, list)]
    settings = [repr(vars(learner)), repr([p.grad is None for p in checkpoint.encoder.parameters()])]
    return [t.detach().numpy().tobytes() for t in tensors] + [a.tobytes() for a in arrays] + settings


def check_same(one: Output, other: Output, *, shared: bool = True) -> None:
    """``shared``: also in what the logits of all classes have in common, which a softmax does not see."""
    if not shared and one.logits is not None and other.logits is not None:
        check_close(*(logits - logits.mean(1, keepdim=True) for logits in (one.logits, other.logits)))
    else:
        check_close(numbers(one), numbers(other))
    if one.logits is not None and other.logits is not None:
        check_same_winner(one.logits, other.logits)
    for part, other_part in zip(one.columns, other.columns, strict=True):
        check_same(part, other_part, shared=shared)


def check_same_winner(one: Tensor, other: Tensor) -> None:
    """The same argmax wherever first and second are farther apart than round-off."""
    best = one.topk(2, dim=1).values
    clear = best[:, 0] - best[:, 1] > TOLERANCE
    assert torch.equal(one.argmax(1)[clear], other.argmax(1)[clear]), "another class won"


def check_close(one: Tensor, other: Tensor) -> None:
    assert one.shape == other.shape, f"shapes {tuple(one.shape)} and {tuple(other.shape)}"
    worst = float((one - other).abs().max())
    assert worst <= TOLERANCE * max(1.0, float(other.abs().max()) / 10), f"differ by {worst}"
