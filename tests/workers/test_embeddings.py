"""The embedding cache: the same numbers, and each input through the encoder once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kshot.checkpoints import Checkpoint, load_checkpoint
from kshot.contracts.tasks import LearnerOptions
from kshot.device import CPU
from kshot.learners.base import Support
from kshot.learners.registry import get_learner
from kshot.relations.choice import choose
from tests.workers import samples
from workers.embeddings import EmbeddingCache, Remembering

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"


class Counted:
    """Notes how many rows go through an encoder."""

    def __init__(self, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[int] = []
        embed = checkpoint.encoder.embed
        monkeypatch.setattr(
            checkpoint.encoder, "embed", lambda inputs, device: self.rows.append(len(inputs)) or embed(inputs, device)
        )


@pytest.fixture
def glyphs() -> Checkpoint:
    return load_checkpoint(CHECKPOINTS / "glyphs")


def drawings(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 28, 28, 1), dtype=np.uint8)


def support(inputs: np.ndarray, n_way: int = 5) -> Support:
    return Support("classification", inputs, torch.arange(len(inputs)) % n_way, n_way)


def test_one_more_example_embeds_one_and_the_state_is_the_same(glyphs, monkeypatch):
    counted = Counted(glyphs, monkeypatch)
    cached, learner = EmbeddingCache(1 << 20).around("ckpt_0", glyphs), get_learner(glyphs.manifest.learner.name)
    inputs = drawings(51)
    learner.adapt(cached, [support(inputs[:50])], LearnerOptions())
    (state,) = learner.adapt(cached, [support(inputs)], LearnerOptions())
    assert counted.rows == [50, 1]
    (plain,) = learner.adapt(glyphs, [support(inputs)], LearnerOptions())
    torch.testing.assert_close(state.tensors, plain.tensors)
    query = [drawings(7, 1)]
    answers = [learner.predict(one, [state], query)[0].logits for one in (glyphs, cached)]
    torch.testing.assert_close(*answers)


def test_equal_rows_of_one_call_are_embedded_once_and_come_back_in_their_places(glyphs, monkeypatch):
    counted, inputs = Counted(glyphs, monkeypatch), drawings(4)
    cached = EmbeddingCache(1 << 20).around("ckpt_0", glyphs)
    order = np.array([2, 0, 2, 1, 0])
    first = cached.encoder.embed(inputs[order], CPU)
    again = cached.encoder.embed(inputs[::-1], CPU)
    assert counted.rows == [3, 1]
    alone = [glyphs.encoder.embed(inputs[i : i + 1], CPU).detach() for i in range(4)]
    torch.testing.assert_close(first, torch.cat([alone[i] for i in order]))
    torch.testing.assert_close(again, torch.cat(alone[::-1]))


def test_a_choice_and_the_adaptation_after_it_embed_each_input_once(glyphs, monkeypatch):
    counted, cached = Counted(glyphs, monkeypatch), EmbeddingCache(1 << 20).around("ckpt_0", glyphs)
    task = support(drawings(25))
    choose([cached], [task])
    get_learner("protonet").adapt(cached, [task], LearnerOptions())
    assert counted.rows == [25]


def test_texts_are_found_again(monkeypatch):
    intents = load_checkpoint(CHECKPOINTS / "intents")
    counted, cached = Counted(intents, monkeypatch), EmbeddingCache(1 << 20).around("ckpt_0", intents)
    one = cached.encoder.embed(["where is my card", "höchste Zeit"], CPU)
    other = cached.encoder.embed(["höchste Zeit", "a third", "where is my card"], CPU)
    assert counted.rows == [2, 1]
    torch.testing.assert_close(other[[2, 0]], one)


def test_two_checkpoints_never_share_a_row(glyphs):
    cache, inputs = EmbeddingCache(1 << 20), drawings(3)
    other = replace(glyphs, encoder=load_checkpoint(CHECKPOINTS / "glyphs").encoder)
    with torch.no_grad():
        for parameter in other.encoder.parameters():
            parameter.mul_(1.5)
    one, two = (cache.around(name, each).encoder.embed(inputs, CPU) for name, each in (("a", glyphs), ("b", other)))
    assert not torch.allclose(one, two)
    torch.testing.assert_close(two, other.encoder.embed(inputs, CPU).detach())


def test_the_cache_forgets_what_was_unused_longest(glyphs, monkeypatch):
    counted, width = Counted(glyphs, monkeypatch), glyphs.encoder.out_dim
    cached, inputs = EmbeddingCache(3 * (4 * width + 500)).around("ckpt_0", glyphs), drawings(6)
    for i in (0, 1, 2, 0, 3, 4, 0, 1):
        cached.encoder.embed(inputs[i : i + 1], CPU)
    assert len(counted.rows) == 6  # 0 stayed, being used; 1 had to be embedded again


def test_only_encoders_that_give_an_input_one_embedding_of_some_cost_are_wrapped(glyphs):
    cache = EmbeddingCache(1 << 20)
    assert isinstance(cache.around("a", glyphs).encoder, Remembering)
    inner = load_checkpoint(CHECKPOINTS / "glyphs-maml")
    vectors = samples.checkpoint("ridge")
    assert cache.around("b", inner) is inner and cache.around("c", vectors) is vectors
