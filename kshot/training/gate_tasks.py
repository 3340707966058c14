"""The held-out episodes on which two checkpoints are compared: the same rows for both, each in its own input form."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kshot.contracts.checkpoints import ImageInput, InputSpec, Manifest
from kshot.contracts.datasets import DatasetManifest
from kshot.contracts.errors import Invalid
from kshot.contracts.registry import Side
from kshot.contracts.wire import Array, Inputs
from kshot.episodes.datasets import read_manifest, read_pool, read_table
from kshot.episodes.pool import Pool, with_rotations
from kshot.episodes.sampling import Episode, EpisodeShape, sample_episode
from kshot.episodes.sinusoids import sample_sinusoid
from kshot.episodes.tables import Table

EPISODES = 300
_MOST_SHAPES = 3
_MOST_WAYS = 20  # of a table's shapes with more, closed forms would take minutes and tell no more
_N_QUERY = 10  # per class, or of a regression task: more would narrow the intervals little
_USUAL_WAYS, _USUAL_SHOTS = 5, (1, 5)
_USUAL_ROWS = (5, 10)  # shots of regression
_MOST_ROWS, _ENOUGH_CLASSES = 8_000, 100  # of large data sets a sample: each of these rows is embedded twice
FEWEST_TASKS = 10
"""Recorded tasks to compare on. Episodes redrawn from fewer give an interval of those few tasks, not of tasks to come,
and an interval over so few is too narrow itself (1.96 standard errors where Student's t asks for 2.3 and more). What
the gate cannot measure it refuses, with `force` as the way out: "no worse" would let a damaged checkpoint pass."""
_SEED = 30_000  # no evaluation row and no training step draws from it

Part = Literal["test", "valid"]


@dataclass(frozen=True)
class Trials:
    """``inputs``: the same rows for either side. ``shapes``: the episodes of each shape; their inputs are numbers of
    rows, int64 (n,). ``part``: of the data set."""

    inputs: Mapping[Side, Inputs]
    shapes: tuple[list[Episode], ...]
    part: Part


def draw_trials(folder: Path, challenger: Manifest, incumbent: Manifest) -> Trials:
    """Episodes of the data set in ``folder`` in the shapes of the challenger's evaluation table, made smaller where the
    data are few. Those of recorded tasks have a ``group``, the task.

    Raises Invalid where the data set suits not both checkpoints, or is too small in its test and validation part.
    """
    dataset = read_manifest(folder)
    if dataset.format == "sinusoid":
        return _drawn_tasks(challenger)
    try:
        return _of_part(folder, dataset, "test", challenger, incumbent)
    except Invalid as error:
        try:
            return _of_part(folder, dataset, "valid", challenger, incumbent)
        except Invalid:
            raise error from None


def _of_part(
    folder: Path, dataset: DatasetManifest, part: Part, challenger: Manifest, incumbent: Manifest
) -> Trials:  # fmt: skip
    if dataset.task == "classification":
        pools = _pools(folder, part, challenger, incumbent)
        shapes = _class_episodes(pools["challenger"], challenger)
        return Trials({side: pool.inputs for side, pool in pools.items()}, shapes, part)
    table = read_table(folder, part)
    able = set(challenger.tasks) & set(incumbent.tasks)
    shapes = ()
    if dataset.task == "regression":
        shapes = _group_episodes(table, challenger)
    else:
        if able & {"classification", "multitask"}:
            drawn = _class_episodes(_target_pool(table), challenger, required=False)
            # The targets are those that both are for, and no sample of others: the held-out rows are what chance drew.
            shapes += tuple([replace(episode, group=None) for episode in shape] for shape in drawn)
        if able & {"regression", "multitask"}:
            shapes += _value_episodes(table, challenger)
    if not shapes:
        raise _too_small()
    return Trials({"challenger": table.inputs, "incumbent": table.inputs}, shapes, part)


def _pools(folder: Path, part: Part, challenger: Manifest, incumbent: Manifest) -> dict[Side, Pool]:
    """The classes as either checkpoint takes them; pictures turned where the challenger was trained so,
    but for those of recorded tasks: a task turned is no other task."""
    turned = bool(((challenger.lineage.settings or {}).get("data") or {}).get("rotations"))
    specs: dict[Side, InputSpec] = {"challenger": challenger.input, "incumbent": incumbent.input}
    read: dict[str, Pool] = {}
    pools: dict[Side, Pool] = {}
    for side, spec in specs.items():
        form = spec.model_dump_json(exclude={"mean", "std"} if isinstance(spec, ImageInput) else {"max_chars"})
        if form not in read:
            pool = read_pool(folder, part, spec)
            read[form] = with_rotations(pool) if turned and pool.groups is None else pool
        pools[side] = read[form]
    one, other = pools.values()
    if one.classes != other.classes or len(one) != len(other):
        raise Invalid("the two checkpoints read different examples of this data set", param="dataset")
    return pools


def _drawn_tasks(challenger: Manifest) -> Trials:
    inputs: list[Array] = []
    shapes, start = [], 0
    for k_shot in _shots(challenger, "mse"):
        rng, episodes = np.random.default_rng(_SEED), []
        for _ in range(EPISODES):
            task = sample_sinusoid(k_shot, _N_QUERY, rng)
            inputs += [np.asarray(task.support), np.asarray(task.query)]
            rows = np.arange(start, start + k_shot + _N_QUERY)
            episodes.append(replace(task, support=rows[:k_shot], query=rows[k_shot:]))
            start += len(rows)
        shapes.append(episodes)
    joined = np.concatenate(inputs)
    return Trials({"challenger": joined, "incumbent": joined}, tuple(shapes), "test")


def _class_episodes(pool: Pool, challenger: Manifest, required: bool = True) -> tuple[list[Episode], ...]:
    """Raises Invalid where no two classes have two examples each, unless that is not ``required``; there the groups are
    recorded tasks, and have to be FEWEST_TASKS."""
    asked = [(min(row.n_way, _MOST_WAYS), row.k_shot) for row in challenger.evaluation if row.n_way is not None]
    asked = list(dict.fromkeys(asked))[:_MOST_SHAPES] or [(_USUAL_WAYS, shot) for shot in _USUAL_SHOTS]
    chosen, fewest = _sample_of(pool), FEWEST_TASKS if required else 1
    fitting = [shape for n_way, k_shot in asked if n_way and (shape := _fit(chosen, n_way, k_shot, fewest))]
    if required and not fitting:
        raise _too_small()
    numbered = Pool(np.arange(len(pool)), chosen.classes, chosen.rows, chosen.groups)
    return tuple(list(islice(_sampled(numbered, shape), EPISODES)) for shape in dict.fromkeys(fitting))


def _sample_of(pool: Pool) -> Pool:
    """The same inputs with so many of the classes, drawn at random, that they have about 8,000 rows."""
    if len(pool) <= _MOST_ROWS or pool.groups is not None:
        return pool
    order = np.random.default_rng(_SEED).permutation(len(pool.classes))
    rows_before = np.cumsum([len(pool.rows[index]) for index in order])
    kept = np.sort(order[: max(_ENOUGH_CLASSES, int(np.searchsorted(rows_before, _MOST_ROWS)))])
    return Pool(pool.inputs, tuple(pool.classes[i] for i in kept), tuple(pool.rows[i] for i in kept))


def _sampled(pool: Pool, shape: EpisodeShape) -> Iterator[Episode]:
    rng = np.random.default_rng(_SEED)
    while True:
        yield sample_episode(pool, shape, rng)


def _fit(pool: Pool, n_way: int, k_shot: int, fewest_groups: int) -> EpisodeShape | None:
    """The shape, made smaller so that at least half of the classes (or groups) with two examples can take part.

    Raises Invalid where there are groups, but too few of them.
    """
    sizes = sorted((len(rows) for rows in pool.rows if len(rows) > 1), reverse=True)
    if pool.groups is not None:
        seconds = (sorted((len(pool.rows[i]) for i in group), reverse=True)[1:2] for group in pool.groups)
        sizes = sorted((own[0] for own in seconds if own and own[0] > 1), reverse=True)
        least = fewest_groups
        if 0 < len(sizes) < least:
            raise _too_few(len(sizes))
    else:
        n_way = least = min(n_way, len(sizes))
    if n_way < 2 or not sizes:
        return None
    enough = sizes[max(least, (len(sizes) + 1) // 2) - 1]
    k_shot = min(k_shot, enough - 1)
    return EpisodeShape(n_way, k_shot, min(_N_QUERY, enough - k_shot))


def _target_pool(table: Table) -> Pool:
    """The classes of each target of a table; an episode is about one target."""
    classes, rows, groups = list[str](), list[Array](), list[tuple[int, ...]]()
    for place, target in enumerate(table.targets):
        if target.n_way is not None:
            groups.append(tuple(range(len(classes), len(classes) + target.n_way)))
            rows += [np.flatnonzero(table.values[:, place] == number) for number in range(target.n_way)]
            classes += [f"{target.name}/{number}" for number in range(target.n_way)]
    return Pool(table.inputs, tuple(classes), tuple(rows), tuple(groups))


def _value_episodes(table: Table, challenger: Manifest) -> tuple[list[Episode], ...]:
    """One target of a table at a time, in units of its standard deviation."""
    known = {}
    for place, target in enumerate(table.targets):
        rows = np.flatnonzero(~np.isnan(table.values[:, place]))
        if target.n_way is None and len(rows) > 2:
            known[place] = rows, _standard(table.values[:, [place]], rows)
    return _regressions(list(known.values()), challenger)


def _group_episodes(table: Table, challenger: Manifest) -> tuple[list[Episode], ...]:
    """One recorded task at a time, its values in units of their standard deviation."""
    tasks = [np.flatnonzero(table.groups == group) for group in np.unique(table.groups)]
    large = [rows for rows in tasks if len(rows) > 2]
    if 0 < len(large) < FEWEST_TASKS:
        raise _too_few(len(large))
    shapes = _regressions([(rows, _standard(table.values, rows)) for rows in large], challenger, FEWEST_TASKS)
    return tuple([replace(e, group=int(table.groups[e.support[0]])) for e in shape] for shape in shapes)


def _regressions(
    tasks: Sequence[tuple[Array, Array]], challenger: Manifest, fewest: int = 1
) -> tuple[list[Episode], ...]:
    """``tasks``: (rows, values of all rows of the table); at least ``fewest``, if any."""
    if not tasks:
        return ()
    sizes = sorted((len(rows) for rows, _ in tasks), reverse=True)
    most = sizes[max(fewest, (len(sizes) + 1) // 2) - 1] - 1  # half of the tasks, at least, can take part
    shapes = []
    for k_shot in dict.fromkeys(min(shots, most) for shots in _shots(challenger, "mse")):
        rng, episodes = np.random.default_rng(_SEED), []
        able = [task for task in tasks if len(task[0]) > k_shot]
        for _ in range(EPISODES):
            rows, values = able[int(rng.integers(len(able)))]
            drawn = rng.permutation(rows)
            support, query = drawn[:k_shot], drawn[k_shot : k_shot + _N_QUERY]
            episodes.append(Episode("regression", None, support, values[support], query, values[query]))
        shapes.append(episodes)
    return tuple(shapes)


def _shots(challenger: Manifest, metric: str) -> list[int]:
    asked = [row.k_shot for row in challenger.evaluation if row.metric == metric]
    return list(dict.fromkeys(asked))[:_MOST_SHAPES] or list(_USUAL_ROWS)


def _standard(values: Array, rows: Array) -> Array:
    """float32, in units of the standard deviation over ``rows``."""
    own: Any = values[rows].astype(float)
    scale = own.std(axis=0)
    standard: Array = ((values - own.mean(axis=0)) / np.where(scale > 0, scale, 1.0)).astype(np.float32)
    return standard


def _too_few(found: int) -> Invalid:
    message = f"{found} recorded tasks are held out that can be compared on, and {FEWEST_TASKS} are needed to tell"
    remedy = "let more be recorded, name another data set, or promote with force: true"
    return Invalid(f"{message}; {remedy}", param="dataset")


def _too_small() -> Invalid:
    return Invalid("the held-out parts of this data set are too small to compare on", param="dataset")
