"""How often `auto` picks the best or the second-best checkpoint.

``python -m benchmarks.accuracy.auto --data ../shared/data``

The truth is the accuracy on the queries when each candidate adapts with its own learner; a tie counts for both, so a
blind choice does a little better than ``chance``, two of the candidates. The candidates beside the shipped ones are
made by benchmarks/recipes/auto/*.toml (into runs/auto, a minute each) and, for vectors, right here.
"""

import argparse
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.accuracy.candidates import Draw, Labelled, Seen, draws, glyphs, intents, photos, see
from benchmarks.report import record
from kshot.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from kshot.contracts.checkpoints import EncoderSpec, EvaluationRow, LearnerSpec, Manifest, TextInput, VectorInput
from kshot.contracts.recipe import Training
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Array
from kshot.encoders.base import Encoder
from kshot.encoders.registry import build_encoder
from kshot.episodes.pool import Pool, pool_from_labels
from kshot.episodes.sampling import EpisodeShape, episodes
from kshot.learners.base import Support
from kshot.learners.batching import embed
from kshot.learners.gradient import GradientLearner
from kshot.learners.registry import get_learner
from kshot.metrics import class_scores
from kshot.relations.choice import choose
from kshot.training.data import load_pool
from kshot.training.evaluation import evaluate
from kshot.training.loop import with_evaluation
from kshot.training.metric import draw as draw_fold
from kshot.training.metric import folded_meta_loss
from kshot.training.signing import signed

SHIPPED, RUNS = Path("checkpoints"), Path("runs/auto")
SHAPES = ((5, 1), (5, 2), (5, 3), (5, 4), (5, 5), (20, 1), (20, 5))
PICTURES = ("glyphs", "glyphs-maml", "photos", "glyphs-brief", "photos-small", "pictures-untrained")
TEXTS = ("intents", "texts-plain", "texts-opening")
TEXT_TWINS = ("intents", "texts-plain", "texts-prototypes", "texts-ridge")
VECTORS = ("vectors-measured", "vectors-texts", "vectors-photos")
_SEED, _N_QUERY, _WIDTH = 20_261_122, 15, 256
_CPU = torch.device("cpu")
_Z = 1.96


@dataclass(frozen=True)
class Row:
    """Over ``supports`` of one shape. ``low``, ``high``: 95% Wilson interval of ``first_or_second``.

    ``chance``: of a blind choice among candidates without ties. ``regret``: accuracy of the best candidate less that of
    the chosen, mean.
    """

    data: str
    candidates: int
    n_way: int
    k_shot: int
    supports: int
    first_or_second: float
    low: float
    high: float
    chance: float
    first: float
    regret: float
    chosen_accuracy: float
    best_accuracy: float
    reliable: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.auto")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--supports", type=int, default=20, help="of each shape and data set")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for name, data, names in _domains(given.data):
        seen = [see(load(candidate), data, RUNS / "cache") for candidate in names]
        for n_way, k_shot in SHAPES:
            rows.append(_kept(name, seen, data, (n_way, k_shot), given.supports))
            print(rows[-1], flush=True)
        record(Path("benchmarks/results/auto"), "checkpoint: auto", [*rows, *_totals(rows)])


def _kept(name: str, seen: Sequence[Seen], data: Labelled, shape: tuple[int, int], supports: int) -> Row:
    """The row of an earlier run with the same weights, or a new one. What changes the choice needs an empty folder."""
    n_way, k_shot = shape
    weights = " ".join(each.checkpoint.manifest.weights_sha256 for each in seen)
    key = hashlib.sha256(weights.encode()).hexdigest()[:16]
    file = RUNS / "rows" / f"{name}-{n_way}-{k_shot}-{supports}-{key}.json"
    if file.is_file():
        return Row(**json.loads(file.read_text()))
    chosen = list(islice(draws(data.labels, n_way, k_shot, _N_QUERY, _SEED), supports))
    row = _row(name, seen, chosen, k_shot)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(row)))
    return row


def with_odds(candidates: int, supports: int, first_or_second: float, **rest: Any) -> Row:
    """A row with what a blind choice would get, and the Wilson interval (1927) of what this one got."""
    low, high = wilson(first_or_second, supports)
    chance = min(2 / candidates, 1.0)
    odds = {"low": low, "high": high, "chance": rest.pop("chance", chance)}
    return Row(candidates=candidates, supports=supports, first_or_second=first_or_second, **odds, **rest)


def wilson(rate: float, n: int) -> tuple[float, float]:
    """95% interval of a rate seen in ``n`` trials; unlike the normal one it does not shrink to a point at 0 and 1."""
    z = _Z**2 / n
    centre, half = rate + z / 2, math.sqrt(z * (rate * (1 - rate) + z / 4))
    return max((centre - half) / (1 + z), 0.0), min((centre + half) / (1 + z), 1.0)


def _domains(data: Path) -> list[tuple[str, Labelled, Sequence[str]]]:
    texts, pictures = intents(data), photos(data)
    _vector_checkpoints(data)
    of_texts = see(load("texts-plain"), texts, RUNS / "cache").embeddings.numpy()
    of_photos = _narrowed(see(load("photos"), pictures, RUNS / "cache").embeddings.numpy())
    return [
        ("vectors of texts", Labelled("vectors-of-texts", of_texts, texts.labels), VECTORS),
        ("vectors of photos", Labelled("vectors-of-photos", of_photos, pictures.labels), VECTORS),
        ("intents", texts, TEXTS),
        ("photos", pictures, PICTURES),
        ("glyphs", glyphs(data), PICTURES),
        ("intents, four near twins", texts, TEXT_TWINS),
    ]


def load(name: str) -> Checkpoint:
    return load_checkpoint(SHIPPED / name if (SHIPPED / name).is_dir() else RUNS / name)


def _row(name: str, seen: Sequence[Seen], chosen: Sequence[Draw], k_shot: int) -> Row:
    accuracies, picked, reliable = [], [], []
    for draw in chosen:
        choice = choose([each.embedded() for each in seen], [draw.of_rows()] * len(seen))
        picked.append(choice.index)
        reliable.append(choice.reliable)
        accuracies.append([_accuracy(each, draw) for each in seen])
    truth = np.asarray(accuracies)
    own = truth[np.arange(len(picked)), picked]
    better = (truth > own[:, None] + 1e-9).sum(1)
    return with_odds(
        data=name,
        candidates=len(seen),
        n_way=chosen[0].n_way,
        k_shot=k_shot,
        supports=len(chosen),
        first_or_second=float((better <= 1).mean()),
        first=float((better == 0).mean()),
        regret=float((truth.max(1) - own).mean()),
        chosen_accuracy=float(own.mean()),
        best_accuracy=float(truth.mean(0).max()),
        reliable=float(np.mean(reliable)),
    )


def _accuracy(seen: Seen, draw: Draw) -> float:
    """Of the candidate's own learner, which moves the encoder where it is one that does."""
    learner = get_learner(seen.checkpoint.manifest.learner.name)
    moves = isinstance(learner, GradientLearner)
    checkpoint = seen.checkpoint if moves else seen.embedded()
    support: Support = draw.of(seen.inputs) if moves else draw.of_rows()
    queries = np.asarray(seen.inputs)[draw.query] if moves else draw.query
    (state,) = learner.adapt_only(checkpoint, [support], LearnerOptions())
    (output,) = learner.predict(checkpoint, [state], [queries])
    assert output.logits is not None
    return class_scores(output.logits.argmax(1).numpy(), draw.query_targets).accuracy


def _totals(rows: Sequence[Row]) -> list[Row]:
    """Per data set, and over all but the near twins, among which the second best is a matter of chance."""
    names = list(dict.fromkeys(row.data for row in rows))
    groups = {name: [row for row in rows if row.data == name] for name in names}
    groups["all but the near twins"] = [row for row in rows if "twins" not in row.data]
    return [_total(name, own) for name, own in groups.items()]


def _total(name: str, rows: Sequence[Row]) -> Row:
    means = {
        field: float(np.mean([getattr(row, field) for row in rows]))
        for field in ("first_or_second", "chance", "first", "regret", "chosen_accuracy", "best_accuracy", "reliable")
    }
    most = max(row.candidates for row in rows)
    return with_odds(most, sum(row.supports for row in rows), data=f"{name}: all", n_way=0, k_shot=0, **means)


def _vector_checkpoints(data: Path) -> None:
    """Two networks on vectors of width 256: one meta-trained on those of texts, one on those of photographs.

    And the shipped checkpoint of vectors, measured on the same validation classes: a promise is compared with promises.
    """
    plain = build_encoder(EncoderSpec(name="text"), TextInput()).eval()
    backbone = load("photos")

    def texts(split: str) -> Pool:
        pool = load_pool("clinc150", split, data, TextInput())  # type: ignore[arg-type]
        return Pool(_embedded(plain, pool), pool.classes, pool.rows)

    def pictures(split: str) -> Pool:
        pool = load_pool("caltech101_84", split, data, backbone.manifest.input)  # type: ignore[arg-type]
        labels = np.empty(len(pool), int)
        for number, rows in enumerate(pool.rows):
            labels[rows] = number
        seen = RUNS / "cache" / f"caltech-{split}.npy"
        if not seen.is_file():
            np.save(seen, _embedded(backbone.encoder, pool))
        return pool_from_labels(_narrowed(np.load(seen, allow_pickle=False)), [f"{label:03}" for label in labels])

    for name, source in (("vectors-texts", texts), ("vectors-photos", pictures)):
        if not (RUNS / name / "manifest.json").is_file():
            save_checkpoint(RUNS / name, _trained(name, source("train"), source("valid")))
    plain_vectors = load("vectors")
    table = [_promise(plain_vectors, source("valid")) for source in (texts, pictures)]
    save_checkpoint(RUNS / "vectors-measured", with_evaluation(plain_vectors, table))


def _embedded(encoder: Encoder, pool: Pool) -> Array:
    with torch.no_grad():
        return embed(encoder, [pool.inputs], _CPU)[0].numpy()


def _narrowed(x: Array) -> Array:
    """Features of another width as unit vectors of 256, by random directions."""
    directions = np.linalg.qr(np.random.default_rng(7).normal(size=(x.shape[1], _WIDTH)))[0].astype(np.float32)
    narrow = x @ directions
    return narrow / np.linalg.norm(narrow, axis=1, keepdims=True)


def _trained(name: str, train: Pool, valid: Pool, steps: int = 400) -> Checkpoint:
    torch.manual_seed(0)
    rng, learner = np.random.default_rng(0), get_learner("ridge")
    spec, kind = VectorInput(width=_WIDTH), EncoderSpec(name="mlp", options={"hidden": [_WIDTH]})
    encoder = build_encoder(kind, spec)
    made = learner.init_head(encoder, "classification", None, torch.Generator())
    head = {key: nn.Parameter(tensor) for key, tensor in made.items()}
    optimiser = torch.optim.Adam([*encoder.parameters(), *head.values()], 1e-3)
    training = Training(steps=steps)
    for _ in range(steps):
        shape = EpisodeShape(10, int(rng.integers(1, 6)), 2)
        loss = folded_meta_loss(learner, encoder, head, train, draw_fold(train, shape, training, rng), {}, training)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    manifest = Manifest(
        name=name,
        description=f"A network meta-trained on {name}.",
        tasks=("classification",),
        input=spec,
        encoder=kind,
        learner=LearnerSpec(name="ridge"),
        lineage=load("vectors").manifest.lineage,
    )
    checkpoint = Checkpoint(manifest, encoder.eval(), {key: tensor.detach() for key, tensor in head.items()})
    return signed(with_evaluation(checkpoint, [_promise(checkpoint, valid)]), valid)


def _promise(checkpoint: Checkpoint, valid: Pool) -> EvaluationRow:
    return evaluate(checkpoint, "valid", episodes(valid, EpisodeShape(5, 1, _N_QUERY), 1), 100)


if __name__ == "__main__":
    main()
