"""Episodes: shaped as asked, without leaks, the same for the same seed."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from kshot.contracts.errors import Invalid
from kshot.episodes.pool import Pool, pool_from_labels, select_classes, with_rotations
from kshot.episodes.sampling import EpisodeShape, draw_rows, episodes
from kshot.episodes.sinusoids import sinusoids

SHAPE = EpisodeShape(n_way=3, k_shot=2, n_query=4)


def numbered_pool() -> Pool:
    """60 vectors of 6 classes; the vector is (row, class)."""
    labels = np.arange(60) % 6
    return pool_from_labels(np.stack([np.arange(60), labels], 1).astype(np.float32), [str(label) for label in labels])


def test_episodes_have_their_shape_and_share_no_example() -> None:
    for episode in islice(episodes(numbered_pool(), SHAPE, seed=1), 50):
        assert np.bincount(episode.support_targets).tolist() == [2, 2, 2]
        assert np.bincount(episode.query_targets).tolist() == [4, 4, 4]
        rows = np.concatenate([episode.support[:, 0], episode.query[:, 0]])
        assert len(set(rows.tolist())) == len(rows)


def test_targets_name_classes_consistently() -> None:
    for episode in islice(episodes(numbered_pool(), SHAPE, seed=1), 20):
        names = dict(zip(episode.support_targets.tolist(), episode.support[:, 1].tolist(), strict=True))
        assert [names[target] for target in episode.query_targets.tolist()] == episode.query[:, 1].tolist()
        assert len(set(names.values())) == 3


def test_queries_are_shuffled() -> None:
    drawn = [tuple(episode.query_targets.tolist()) for episode in islice(episodes(numbered_pool(), SHAPE, seed=1), 10)]
    assert len(set(drawn)) > 5


def test_the_seed_decides() -> None:
    def first(seed: int) -> list[float]:
        return next(episodes(numbered_pool(), SHAPE, seed)).support.ravel().tolist()

    assert first(5) == first(5) != first(6)


def test_text_pools_give_lists() -> None:
    pool = pool_from_labels([f"text {i}" for i in range(20)], [str(i % 2) for i in range(20)])
    episode = next(episodes(pool, EpisodeShape(2, 1, 3), seed=0))
    assert isinstance(episode.support, list) and len(episode.query) == 6


@pytest.mark.parametrize("shape", [EpisodeShape(7, 1, 1), EpisodeShape(2, 6, 5)])
def test_a_pool_too_small_is_said(shape: EpisodeShape) -> None:
    with pytest.raises(Invalid, match="too small"):
        next(episodes(numbered_pool(), shape, seed=0))


def test_sinusoids_are_sinusoids_within_their_family() -> None:
    amplitudes = []
    for task in islice(sinusoids(10, 500, seed=2), 200):
        x, y = task.query[:, 0].astype(np.float64), task.query_targets[:, 0].astype(np.float64)
        basis = np.stack([np.sin(x), -np.cos(x)], 1)
        (a, b), residual, *_ = np.linalg.lstsq(basis, y, rcond=None)
        assert residual[0] < 1e-6
        amplitude, phase = np.hypot(a, b), np.arctan2(b, a)
        assert 0.1 - 1e-4 <= amplitude <= 5 + 1e-4 and -1e-3 <= phase <= np.pi + 1e-3
        assert np.abs(x).max() <= 5
        amplitudes.append(amplitude)
    assert min(amplitudes) < 0.5 and max(amplitudes) > 4.5


def test_sinusoids_repeat_with_their_seed() -> None:
    one, two, other = (next(sinusoids(5, 5, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.query_targets, two.query_targets)
    assert not np.array_equal(one.query_targets, other.query_targets)
    assert one.support.dtype == one.support_targets.dtype == np.float32 and one.support.shape == (5, 1)


def test_the_random_stream_is_that_of_pools_where_every_class_has_enough() -> None:
    """Shipped recipes give the same weights only while this draws the same numbers in the same order."""
    pool, one, other = numbered_pool(), np.random.default_rng(7), np.random.default_rng(7)
    drawn = draw_rows(pool, 3, 5, one)
    chosen = other.choice(6, 3, replace=False)
    expected = [other.choice(pool.rows[index], 5, replace=False) for index in chosen]
    np.testing.assert_array_equal(drawn, np.stack(expected))
    assert one.random() == other.random()


def test_classes_with_too_few_examples_are_passed_over() -> None:
    pool = pool_from_labels(np.arange(13, dtype=np.float32)[:, None], [*"aaaa", *"bbbb", *"cccc", "d"])
    shape, seen = EpisodeShape(2, 2, 2), set()
    for episode in islice(episodes(pool, shape, seed=0), 40):
        seen |= set(episode.support.ravel().tolist())
    assert seen == set(map(float, range(12)))
    with pytest.raises(Invalid, match="too small"):
        next(episodes(pool, EpisodeShape(4, 2, 2), seed=0))


def test_an_episode_keeps_to_one_group() -> None:
    """Groups of three classes, of two, and of two with one too small: that group is never drawn."""
    labels = [label for label in "abcdefg" for _ in range(4)]
    labels.remove("g")
    groups = ((0, 1, 2), (3, 4), (5, 6))
    pool = replace(pool_from_labels(np.arange(27, dtype=np.float32)[:, None], labels), groups=groups)
    ways = set()
    for episode in islice(episodes(pool, EpisodeShape(5, 1, 3), seed=0), 40):
        classes = {"abcdefg".index(labels[int(row)]) for row in episode.support.ravel()}
        assert tuple(sorted(classes)) in groups[:2] and episode.n_way == len(classes)
        ways.add(episode.n_way)
    assert ways == {2, 3}
    with pytest.raises(Invalid, match="too small"):
        next(episodes(pool, EpisodeShape(2, 3, 3), seed=0))


def test_groups_survive_the_choice_of_classes_and_rotation() -> None:
    pictures = np.arange(16, dtype=np.uint8).reshape(4, 2, 2, 1)
    pool = replace(pool_from_labels(pictures, list("abcd")), groups=((0, 1), (2, 3)))
    assert select_classes(pool, ["d", "a", "b"]).groups == ((1, 2), (0,))
    turned = with_rotations(pool).groups
    assert turned is not None and len(turned) == 8 and turned[2] == (4, 5)
