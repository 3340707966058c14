"""The gate before production: a challenger and the incumbent on the same held-out episodes.

``python -m kshot.training.gate WORK``: WORK is laid out as ``contracts.registry.GateSpec`` says.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from kshot.allocator import keep_freed_memory
from kshot.checkpoints import Checkpoint, load_checkpoint
from kshot.contracts.errors import Invalid, KshotError
from kshot.contracts.jobs import Exit
from kshot.contracts.registry import (
    COMPARISON_FILE,
    FAILURE_FILE,
    GATE_FILE,
    ComparedShape,
    Comparison,
    GateSpec,
    Side,
    verdict_of,
)
from kshot.contracts.tasks import Failure
from kshot.contracts.wire import Array, Inputs
from kshot.device import add_device_option, choose_device
from kshot.encoders.embedded import Embedded
from kshot.episodes.pool import take
from kshot.episodes.sampling import Episode
from kshot.metrics import by_task, mean_interval
from kshot.relations.transfer import episode_scores
from kshot.training.gate_tasks import Trials, draw_trials
from kshot.training.precompute import embeddings_of, embeds_once


def compare(challenger: Checkpoint, incumbent: Checkpoint, trials: Trials, spec: GateSpec) -> Comparison:
    """Both on all of the trials, episode by episode."""
    sides: dict[Side, Checkpoint] = {"challenger": challenger, "incumbent": incumbent}
    scores = {side: _scores(checkpoint, trials.inputs[side], trials) for side, checkpoint in sides.items()}
    rows = tuple(
        _row(episodes, own, other)
        for episodes, own, other in zip(trials.shapes, scores["challenger"], scores["incumbent"], strict=True)
    )
    return Comparison(
        challenger=spec.challenger,
        incumbent=spec.incumbent,
        dataset=spec.dataset,
        part=trials.part,
        rows=rows,
        verdict=verdict_of(rows),
        trained_on=tuple(side for side, checkpoint in sides.items() if _knows(checkpoint, spec.dataset)),
    )


def main(arguments: list[str] | None = None) -> int:
    """Compare, and write down what was found, or why nothing could be; returns the exit code (`Exit`)."""
    parser = argparse.ArgumentParser(prog="python -m kshot.training.gate")
    parser.add_argument("work", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    add_device_option(parser)
    given = parser.parse_args(arguments)
    keep_freed_memory()
    torch.set_num_threads(given.threads)
    work: Path = given.work
    device = choose_device(given.device)
    try:
        spec = GateSpec.model_validate_json((work / GATE_FILE).read_bytes())
        folders = (work / "checkpoints" / side for side in ("challenger", "incumbent"))
        challenger, incumbent = (load_checkpoint(folder, device) for folder in folders)
        trials = _trials(work / "data" / spec.dataset, challenger, incumbent)
        found = compare(challenger, incumbent, trials, spec)
    except KshotError as error:
        failure = Failure(code=error.code, message=error.message, param=error.param)
        _write(work / FAILURE_FILE, failure.model_dump_json())
        return Exit.FAILED
    _write(work / COMPARISON_FILE, found.model_dump_json(indent=1))
    return Exit.FINISHED


def _trials(folder: Path, challenger: Checkpoint, incumbent: Checkpoint) -> Trials:
    try:
        return draw_trials(folder, challenger.manifest, incumbent.manifest)
    except Invalid as error:
        raise Invalid(f"the data set cannot be used to compare them: {error.message}", param="dataset") from None


def _scores(checkpoint: Checkpoint, inputs: Inputs, trials: Trials) -> list[Array]:
    """Of each shape the scores (n,) of its episodes: accuracy or mean squared error."""
    if not embeds_once(checkpoint):
        return [episode_scores(checkpoint, [_filled(e, inputs) for e in shape]) for shape in trials.shapes]
    used = np.unique(np.concatenate([np.r_[e.support, e.query] for shape in trials.shapes for e in shape]))
    table = Embedded(embeddings_of(checkpoint, take(inputs, used))).eval()
    short = Checkpoint(checkpoint.manifest, table, checkpoint.head)
    return [episode_scores(short, [_renumbered(e, used) for e in shape]) for shape in trials.shapes]


def _filled(episode: Episode, inputs: Inputs) -> Episode:
    """The episode with its inputs in place of their rows."""
    return _with(episode, take(inputs, np.asarray(episode.support)), take(inputs, np.asarray(episode.query)))


def _renumbered(episode: Episode, used: Array) -> Episode:
    """The episode with places among ``used`` in place of rows."""
    return _with(episode, np.searchsorted(used, episode.support), np.searchsorted(used, episode.query))


def _with(episode: Episode, support: Inputs, query: Inputs) -> Episode:
    return replace(episode, support=support, query=query)


def _row(episodes: list[Episode], challenger: Array, incumbent: Array) -> ComparedShape:
    first = max(episodes, key=lambda episode: episode.n_way or 0)
    if not (np.isfinite(challenger).all() and np.isfinite(incumbent).all()):
        raise Invalid("one of the two gives no finite answers on this data set", param="checkpoint")
    classes = first.n_way is not None
    groups = [episode.group for episode in episodes if episode.group is not None]
    tasks = np.array(groups) if groups else None
    ahead = challenger - incumbent if classes else incumbent - challenger
    return ComparedShape(
        n_way=first.n_way,
        k_shot=len(first.support) // (first.n_way or 1),
        metric="accuracy" if classes else "mse",
        challenger=mean_interval(by_task(challenger, tasks)),
        incumbent=mean_interval(by_task(incumbent, tasks)),
        ahead=mean_interval(by_task(ahead, tasks)),
        episodes=len(episodes),
        tasks=len(set(groups)) or None,
    )


def _knows(checkpoint: Checkpoint, dataset: str) -> bool:
    return any(source.id == dataset for source in checkpoint.manifest.lineage.data)


def _write(file: Path, text: str) -> None:
    """The file appears whole or not at all."""
    unfinished = file.with_suffix(".part")
    unfinished.write_text(text)
    unfinished.replace(file)


if __name__ == "__main__":
    sys.exit(main())
