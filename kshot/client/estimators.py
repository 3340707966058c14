"""scikit-learn estimators on a kshot service (`pip install kshot[sklearn]`).

They behave as scikit-learn's own: parameters are set in the constructor and may be searched, `fit` returns the
estimator, what was learned has names that end in ``_``. A pickle holds the id of the adapted model, no connection and
no key: the key is read from ``KSHOT_KEY`` when it is needed.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, validate_data

from kshot.client.clients import Client
from kshot.client.models import Model, Prediction, given, model_with
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Array

_ROWS_AT_ONCE = 2000
_OTHERS_AT_ONCE = 100


class FewShot(BaseEstimator):  # type: ignore[misc]
    """What both estimators share: where the service is, what is adapted and how."""

    def __init__(
        self,
        checkpoint: str = "vectors",
        *,
        learner: str | None = None,
        l2: float | None = None,
        inner_steps: int | None = None,
        inner_lr: float | None = None,
        ttl_seconds: int | None = None,
        url: str | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.learner = learner
        self.l2 = l2
        self.inner_steps = inner_steps
        self.inner_lr = inner_lr
        self.ttl_seconds = ttl_seconds
        self.url = url

    def _adapt(self, inputs: Any, labels: Sequence[Any], task: Literal["classification", "regression"]) -> None:
        options = given(learner=self.learner, l2=self.l2, inner_steps=self.inner_steps, inner_lr=self.inner_lr)
        with _as_value_errors():
            model = _client(self.url).adapt(
                self.checkpoint, inputs, labels, options={"task": task, **options}, ttl_seconds=self.ttl_seconds
            )
        self._keep(model)

    def _add(self, inputs: Any, labels: Sequence[Any]) -> None:
        with _as_value_errors():
            self._keep(self._model().add_examples(inputs, labels, ttl_seconds=self.ttl_seconds))

    def _keep(self, model: Model) -> None:
        self.model_id_ = model.id
        self.quality_ = model.quality

    def _model(self) -> Model:
        return model_with(self.model_id_, _client(self.url)._driver)

    def _answers(self, X: Any, wanted: Literal["probabilities", "values"]) -> Iterator[Prediction]:
        """Of all rows, so many at a time as one request may well carry. Raises NotFittedError."""
        check_is_fitted(self, "model_id_")
        inputs = X if is_raw(X) else validate_data(self, X, reset=False)
        step = _OTHERS_AT_ONCE if is_raw(X) else _ROWS_AT_ONCE
        rows = list(inputs) if is_raw(X) else inputs
        with _as_value_errors():
            for start in range(0, len(rows), step):
                yield self._model().predict(rows[start : start + step], wanted=[wanted])


class FewShotClassifier(ClassifierMixin, FewShot):  # type: ignore[misc]
    """A classifier that a kshot service adapts to a handful of examples.

    Args:
        checkpoint: what to adapt: ``vectors`` for tables of numbers, ``intents`` for strings, ``photos`` or ``glyphs``
            for pictures, or any other, by ``name``, ``name@alias``, id, or ``auto``.
        learner, l2, inner_steps, inner_lr: options of the learner; None leaves them to the checkpoint.
        ttl_seconds: until the model expires; 30 days by default.
        url: of the service; by default ``KSHOT_URL``, else http://127.0.0.1:8000. The key is read from ``KSHOT_KEY``.

    Attributes:
        classes_: the labels, sorted, (n_classes,).
        model_id_: id of the adapted model.
        quality_: accuracy on its own examples, each left out in turn, where the learner measures it.
        n_features_in_: width, of tables of numbers.

    >>> model = FewShotClassifier("intents").fit(["where is my card", "I want a refund"], ["arrival", "refund"])
    >>> model.predict(["my new card is late"]).tolist()
    ['arrival']
    """

    def fit(self, X: Any, y: Any) -> "FewShotClassifier":
        """Adapt to examples.

        Args:
            X: numbers (n_samples, n_features), as an array or a table; or n strings, Pillow images, `pathlib.Path` of
                pictures, or arrays of pictures (height, width[, channels]).
            y: (n_samples,) labels of at least two classes.

        Raises ValueError naming what does not fit.
        """
        inputs, labels = _checked(self, X, y, reset=True)
        self.classes_ = _classes_of(labels)
        self._adapt(inputs, self._sent(labels, reset=True), "classification")
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> "FewShotClassifier":
        """Add examples, which may bring new classes. The first call needs examples of at least two classes.

        Args:
            X: as for `fit`.
            y: (n_samples,) labels.
            classes: further labels that may come later; until they do, their probability is 0.
        """
        first = not hasattr(self, "model_id_")
        inputs, labels = _checked(self, X, y, reset=first)
        known = [] if first else [self.classes_]
        self.classes_ = unique_labels(labels, *known, *([] if classes is None else [classes]))
        if first:
            _classes_of(labels)
            self._adapt(inputs, self._sent(labels, reset=True), "classification")
        else:
            self._add(inputs, self._sent(labels, reset=False))
        return self

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (n_samples, n_classes), in the order of ``classes_``. Raises NotFittedError."""
        rows = [one for answer in self._answers(X, "probabilities") for one in answer.probabilities]
        names = [str(self._names[label]) for label in self.classes_.tolist()]
        table = np.array([[row.get(name, 0.0) for name in names] for row in rows], dtype=np.float64)
        return table / table.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]

    def predict(self, X: Any) -> Array:
        """The most probable class of each sample, (n_samples,). Raises NotFittedError."""
        probabilities = self.predict_proba(X)
        best: Array = self.classes_[probabilities.argmax(axis=1)]
        return best

    def _sent(self, labels: Array, reset: bool) -> list[str | int]:
        """Labels as the service knows them: strings and integers as they are, others (floats, truths) by a number that
        stays theirs when further classes come."""
        if reset:
            self._names: dict[Any, str | int] = {}
        for label in self.classes_.tolist():
            self._names.setdefault(label, label if type(label) in (str, int) else len(self._names))
        return [self._names[label] for label in labels.tolist()]


class FewShotRegressor(RegressorMixin, FewShot):  # type: ignore[misc]
    """A regressor that a kshot service adapts to a handful of examples; parameters as of `FewShotClassifier`.

    Attributes:
        model_id_: id of the adapted model.
        quality_: mean squared error and R^2 on its own examples, each left out in turn, where the learner measures it.
        n_features_in_: width, of tables of numbers.
    """

    def fit(self, X: Any, y: Any) -> "FewShotRegressor":
        """Adapt to examples; ``y``: (n_samples,) or (n_samples, n_targets) numbers. Raises ValueError."""
        inputs, targets = _checked(self, X, y, reset=True, numeric=True)
        self._n_targets = None if targets.ndim == 1 else targets.shape[1]
        self._adapt(inputs, targets.tolist(), "regression")
        return self

    def partial_fit(self, X: Any, y: Any) -> "FewShotRegressor":
        """Add examples; as many targets as before."""
        if not hasattr(self, "model_id_"):
            return self.fit(X, y)
        inputs, targets = _checked(self, X, y, reset=False, numeric=True)
        self._add(inputs, targets.tolist())
        return self

    def predict(self, X: Any, return_std: bool = False) -> Array | tuple[Array, Array]:
        """Values (n_samples,) or (n_samples, n_targets); with ``return_std`` also their standard deviations, NaN where
        the learner gives none. Raises NotFittedError."""
        answers = list(self._answers(X, "values"))
        values = self._table([one for answer in answers for one in answer.values])
        if not return_std:
            return values
        return values, self._table([one for answer in answers for one in answer.stds])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _table(self, values: Sequence[Any]) -> Array:
        table = np.array(values, dtype=np.float64)  # None becomes NaN
        return table.reshape(len(values)) if self._n_targets is None else table.reshape(len(values), self._n_targets)


def is_raw(X: Any) -> bool:
    """Whether inputs are texts or pictures, which go to the service as they are, and not a table of numbers."""
    if hasattr(X, "to_numpy"):  # pandas, polars
        X = X.to_numpy()
    if not isinstance(X, list | tuple | np.ndarray) or len(X) == 0:
        return False
    if isinstance(X, np.ndarray) and X.ndim > 1:
        return X.ndim > 2 and X.dtype == np.uint8
    first = X[0]
    if isinstance(first, np.ndarray):
        return first.ndim > 1 and first.dtype == np.uint8
    return isinstance(first, str | bytes | Path) or hasattr(first, "getbands")


def _checked(estimator: FewShot, X: Any, y: Any, *, reset: bool, numeric: bool = False) -> tuple[Any, Array]:
    """Inputs and targets as scikit-learn wants them checked."""
    if not is_raw(X):
        inputs, targets = validate_data(estimator, X, y, reset=reset, multi_output=numeric, y_numeric=numeric)
    else:
        inputs = list(X)
        targets = check_array(y, ensure_2d=False, dtype="numeric") if numeric else column_or_1d(y, warn=True)
        check_consistent_length(inputs, targets)
    if numeric:
        return inputs, targets.astype(np.float64)
    check_classification_targets(targets)
    return inputs, targets


def _classes_of(labels: Array) -> Array:
    classes: Array = unique_labels(labels)
    if len(classes) < 2:
        raise ValueError("classification needs examples of at least 2 classes; there is only 1 class")
    return classes


@contextmanager
def _as_value_errors() -> Iterator[None]:
    """What the service finds wrong with the data is a ValueError to scikit-learn."""
    try:
        yield
    except Invalid as error:
        raise ValueError(f"{error.param}: {error}" if error.param else str(error)) from error


def _client(url: str | None) -> Client:
    """One for all estimators of this process on that service."""
    return _shared_client(url or os.environ.get("KSHOT_URL"), os.environ.get("KSHOT_KEY"), os.getpid())


@lru_cache(maxsize=8)
def _shared_client(url: str | None, key: str | None, process: int) -> Client:
    """``process``: a child that was forked needs connections of its own."""
    return Client(url, key)
