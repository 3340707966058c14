"""The episodes a job trains and is measured on: what suits the data where nothing is said, and can be drawn always."""

from dataclasses import dataclass

from kshot.contracts.errors import Invalid
from kshot.contracts.job_bodies import EvaluateRequest
from kshot.contracts.recipe import EvaluationTask, Range
from kshot.planning.learner import GRADIENT
from kshot.planning.wanted import TURNS, Wanted

_EPISODES = 600
_FEW_WAYS = 5


@dataclass(frozen=True)
class Shape:
    """As :class:`~kshot.contracts.recipe.Training` has them."""

    n_way: Range | None
    k_shot: Range
    n_query: int


def choose_episodes(wanted: Wanted, encoder: str, learner: str, rotations: bool) -> Shape:
    """The request's episodes, filled in. Raises Invalid where the training part cannot give them."""
    asked = wanted.request.episode
    if wanted.kind == "table":
        for name in ("n_way", "k_shot", "n_query"):
            if getattr(asked, name) is not None:
                raise Invalid("a table is trained row by row, not in episodes; leave this out", param=f"episode.{name}")
        return Shape(None, (1, 1), 1)
    if wanted.kind in {"curves", "numbers"} and asked.n_way is not None:
        raise Invalid("these are regression tasks, which have no classes; leave this out", param="episode.n_way")
    usual = _usual(wanted, encoder, learner)
    n_way, k_shot = _pair(asked.n_way, "n_way"), _pair(asked.k_shot, "k_shot")
    if wanted.kind != "classes":
        return Shape(n_way or usual.n_way, k_shot or usual.k_shot, asked.n_query or usual.n_query)
    return _drawable(wanted, Shape(n_way, k_shot or (0, 0), asked.n_query or 0), usual, TURNS if rotations else 1)


def choose_evaluation(wanted: Wanted, data: str, learner: str) -> list[EvaluationTask]:
    """The rows of the evaluation table. Rows asked for are refused where they cannot be drawn, usual ones shrink."""
    asked = wanted.request.evaluate
    if wanted.kind == "table":
        if asked:
            message = "the targets of a table are measured by themselves, on held-out rows; leave this out"
            raise Invalid(message, param="evaluate")
        return []
    if asked is not None:
        return [_row(wanted, data, row, f"evaluate[{place}]") for place, row in enumerate(asked)]
    if wanted.kind in {"curves", "numbers"}:
        shots, n_query = ((10, 5), 100) if wanted.kind == "curves" else ((5,), 5)
        return [EvaluationTask(data=data, k_shot=k, n_query=n_query, episodes=_EPISODES) for k in shots]
    slow = learner in GRADIENT and wanted.dataset.modality == "image"
    rows = [_shrunk(wanted, data, n_way, k) for n_way in ((5,) if slow else (5, 20)) for k in (1, 5)]
    kept: list[EvaluationTask] = []
    for row in rows:
        if row is not None and (row.n_way, row.k_shot) not in [(known.n_way, known.k_shot) for known in kept]:
            kept.append(row)
    return kept


def _usual(wanted: Wanted, encoder: str, learner: str) -> Shape:
    """As the checkpoints that ship, and benchmarks/recipes, have them."""
    other = {
        "curves": Shape(None, (4, 10) if learner in {"ridge", "multitask"} else (10, 10), 20),
        "numbers": Shape(None, (2, 5), 5),
        "tasks": Shape((5, 20), (1, 5), 5),  # fewer where the tasks are smaller (kshot.training.losses.fitted)
    }
    if wanted.kind in other:
        return other[wanted.kind]
    if learner in GRADIENT:
        folded = learner == "anil" and encoder in {"conv4", "resnet12"}
        return Shape((20, 20), (2, 2), 1) if folded else Shape((5, 5), (1, 1), 5)
    of_encoder = {
        "conv4": Shape((100, 100), (2, 2), 1),
        "resnet12": Shape((20, 20), (2, 2), 1),
        "image": Shape((5, 20), (1, 5), 2),
    }
    return of_encoder.get(encoder, Shape((5, 50 if wanted.dataset.modality == "text" else 20), (1, 5), 3))


def _drawable(wanted: Wanted, asked: Shape, usual: Shape, turns: int) -> Shape:
    """Of ``asked``, zeros and None are open. What is open shrinks to what there is."""
    k_low, k_high = asked.k_shot if asked.k_shot[1] else usual.k_shot
    n_query = asked.n_query or usual.n_query
    most = wanted.most_examples("train")
    if not asked.k_shot[1]:
        k_high = max(1, min(k_high, most - (asked.n_query or 1)))
        k_low = min(k_low, k_high)
    if not asked.n_query:
        n_query = max(1, min(n_query, most - k_high))
    classes = turns * wanted.classes_with(k_high + n_query, "train")
    if classes < 2:
        param = "episode.k_shot" if asked.k_shot[1] else "episode.n_query" if asked.n_query else "dataset"
        message = (
            f"the training part has {classes} classes of {k_high + n_query} examples, k_shot + n_query, and 2 are "
            "needed; ask for fewer, or add examples"
        )
        raise Invalid(message, param=param)
    if asked.n_way is None:
        low, high = usual.n_way or (2, 2)
        return Shape((min(low, classes), min(high, classes)), (k_low, k_high), n_query)
    if asked.n_way[1] > classes:
        message = f"the training part has {classes} classes of {k_high + n_query} examples, k_shot + n_query"
        raise Invalid(f"{message}; ask for at most so many", param="episode.n_way")
    return Shape(asked.n_way, (k_low, k_high), n_query)


def _pair(given: int | list[int] | None, name: str) -> Range | None:
    if given is None:
        return None
    low, high = (given, given) if isinstance(given, int) else given
    if low > high:
        raise Invalid("the lowest comes first", param=f"episode.{name}")
    return low, high


def _row(wanted: Wanted, data: str, row: EvaluateRequest, param: str) -> EvaluationTask:
    """A row that was asked for; Invalid where the test part cannot give it."""
    episodes, n_query = row.episodes, row.n_query
    if wanted.kind in {"curves", "numbers"}:
        if row.n_way is not None:
            raise Invalid("regression tasks have no classes; leave this out", param=f"{param}.n_way")
        return EvaluationTask(data=data, k_shot=row.k_shot, n_query=n_query, episodes=episodes)
    if wanted.kind == "tasks":
        return EvaluationTask(data=data, n_way=row.n_way or 5, k_shot=row.k_shot, n_query=n_query, episodes=episodes)
    if "n_query" not in row.model_fields_set:
        n_query = max(1, min(n_query, wanted.most_examples("test") - row.k_shot))
    classes = wanted.classes_with(row.k_shot + n_query, "test")
    if classes < max(2, row.n_way or 2):
        message = f"the test part has {classes} classes of {row.k_shot + n_query} examples, k_shot + n_query"
        at_fault = "n_way" if row.n_way is not None and classes >= 2 else "k_shot"
        raise Invalid(f"{message}; ask for less, or leave evaluate out", param=f"{param}.{at_fault}")
    n_way = row.n_way or min(5, classes)
    return EvaluationTask(data=data, n_way=n_way, k_shot=row.k_shot, n_query=n_query, episodes=episodes)


def _shrunk(wanted: Wanted, data: str, n_way: int, k_shot: int) -> EvaluationTask | None:
    """A usual row, as far as the test part allows; None where it does not. How large recorded tasks are shows only when
    they are collected: their rows shrink as they are measured (kshot/training/measuring.py), the ways task by task."""
    if wanted.kind == "tasks":
        few = n_way <= _FEW_WAYS
        return EvaluationTask(data=data, n_way=n_way, k_shot=k_shot, n_query=5, episodes=_EPISODES) if few else None
    most = wanted.most_examples("test")
    k_shot = min(k_shot, most - 1)
    if k_shot < 1:
        return None
    n_query = min(15 if n_way <= _FEW_WAYS else 5, most - k_shot)
    classes = wanted.classes_with(k_shot + n_query, "test")
    if classes < 2:
        return None
    episodes = _EPISODES if n_way <= _FEW_WAYS else _EPISODES // 2
    return EvaluationTask(data=data, n_way=min(n_way, classes), k_shot=k_shot, n_query=n_query, episodes=episodes)
