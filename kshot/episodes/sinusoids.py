"""The sinusoid family of Finn et al. (2017), section 5.1: y = A sin(x - phase), one (A, phase) per task."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kshot.episodes.sampling import Episode

_AMPLITUDES = (0.1, 5.0)
_PHASES = (0.0, np.pi)
_X = (-5.0, 5.0)


def sample_sinusoid(k_shot: int, n_query: int, rng: np.random.Generator) -> Episode:
    """One regression task: inputs float32 (n, 1) uniform in [-5, 5], targets float32 (n, 1) without noise."""
    amplitude, phase = rng.uniform(*_AMPLITUDES), rng.uniform(*_PHASES)
    x = rng.uniform(*_X, size=(k_shot + n_query, 1))
    inputs, targets = _float32(x), _float32(amplitude * np.sin(x - phase))
    return Episode("regression", None, inputs[:k_shot], targets[:k_shot], inputs[k_shot:], targets[k_shot:])


def sinusoids(k_shot: int, n_query: int, seed: int) -> Iterator[Episode]:
    """Endless tasks from one seed."""
    rng = np.random.default_rng(seed)
    while True:
        yield sample_sinusoid(k_shot, n_query, rng)


def _float32(x: NDArray[np.float64]) -> NDArray[np.float32]:
    return x.astype(np.float32)
