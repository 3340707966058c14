"""Invariant 5: the fast path equals the flat loop of examples/, for every registered learner; and the loops run."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.learners.base import Output
from kshot.learners.registry import LEARNERS
from tests.kshot.learners.invariants import answers, check_close, check_same_winner
from tests.kshot.learners.learner_cases import Case, all_cases, checkpoint_of, random_task
from tests.kshot.learners.references import REFERENCES

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize("case", all_cases(), ids=str)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_loop_equals_vectorised(case: Case, seed: int) -> None:
    rng = np.random.default_rng(seed)
    checkpoint, tasks = checkpoint_of(case, seed), [random_task(case, rng) for _ in range(5)]
    for (support, query), output in zip(tasks, answers(LEARNERS[case.learner], checkpoint, tasks), strict=True):
        expected = REFERENCES[case.learner](checkpoint, support, query).float()
        fast = torch.cat([_answer(part) for part in output.columns or (output,)], dim=1)
        check_close(fast, expected)
        if output.logits is not None:
            check_same_winner(fast, expected)


def _answer(output: Output) -> torch.Tensor:
    answer = output.logits if output.values is None else output.values
    assert answer is not None
    return answer


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*_loop.py")))
def test_example_runs(name: str) -> None:
    done = subprocess.run([sys.executable, EXAMPLES / f"{name}.py"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
