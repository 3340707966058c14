"""What the service answers, in plain words."""

from collections.abc import Mapping
from typing import Any

from kshot.cli.scoring import in_words
from kshot.contracts.api import AdaptedModel
from kshot.contracts.checkpoints import EvaluationRow, InputSpec
from kshot.contracts.tasks import Quality

_METHODS = {
    "leave_one_out": "when each is left out in turn",
    "k_fold": "when each of {folds} parts is left out in turn",
}


def quality_in_words(quality: Quality | None) -> str:
    """How good a model is by its own examples, and whether that says much."""
    if quality is None or (quality.accuracy is None and quality.mse is None):
        return "unknown: too few examples to leave any out"
    how = _METHODS.get(quality.method, quality.method).format(folds=quality.folds)
    if quality.accuracy is not None:
        figure = f"{quality.accuracy:.1%} of its {quality.n} examples right {how}"
    else:
        explained = "" if quality.r2 is None else f", {quality.r2:.1%} of the variance explained (R²)"
        figure = f"mean squared error {quality.mse:.4g}{explained} over its {quality.n} examples {how}"
    return figure if quality.reliable else f"{figure}; too few examples to rely on that"


def model_facts(model: AdaptedModel, held_out: Mapping[str, Any] | None) -> dict[str, object]:
    """What a user wants to know about a model that was just made."""
    made_with = None if model.checkpoint is None else f"{model.checkpoint.name} ({model.learner})"
    chosen = None if model.selection is None else model.selection.reason
    quality = quality_in_words(model.quality)
    if held_out is None and not (model.quality and model.quality.reliable):
        quality += " (--holdout 0.2 keeps some back to measure on)"
    return {
        "model": model.id,
        "checkpoint": made_with,
        "chosen": chosen,
        "learned": _learned(model),
        "quality": None if model.targets else quality,
        **{f"quality of {target.name}": quality_in_words(target.quality) for target in model.targets},
        "kept back": None if held_out is None else in_words(held_out),
        "expires": "never (pinned)" if model.pinned else model.expires_at,
    }


def _learned(model: AdaptedModel) -> str:
    if not model.classes:
        return f"values from {model.n_support} examples"
    counts = sorted(set(model.k_shot.values())) or [0]
    each = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{len(model.classes)} classes from {model.n_support} examples ({each} each)"


def figure(row: EvaluationRow) -> str:
    """A row of an evaluation table: ``98.4% ± 0.2``."""
    if row.metric == "accuracy":
        return f"{row.mean:.1%} ± {100 * row.interval:.1f}"
    return f"{row.mean:.4g} ± {row.interval:.2g}"


def shape(row: EvaluationRow) -> str:
    """``5-way 1-shot``."""
    return f"{row.k_shot}-shot" if row.n_way is None else f"{row.n_way}-way {row.k_shot}-shot"


def takes(spec: InputSpec) -> str:
    """What a checkpoint takes."""
    if spec.modality == "image":
        return f"{'grey' if spec.channels == 1 else 'colour'} pictures, seen at {spec.width} x {spec.height}"
    if spec.modality == "vector":
        return "vectors of any width" if spec.width is None else f"vectors of width {spec.width}"
    return f"texts up to {spec.max_chars} characters"


def size_in_words(n_bytes: int) -> str:
    """``7.2 MB``, or kB below one of them."""
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:.1f} kB"
