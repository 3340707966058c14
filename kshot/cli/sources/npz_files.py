"""npz archives: an array of inputs, and one of labels."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kshot.cli.sources.examples import Examples, Task, Truth, WrongUse, listed
from kshot.cli.sources.values import as_labels, kind_of
from kshot.contracts.wire import Array

_INPUTS = ("inputs", "x", "features", "vectors", "embeddings", "data", "texts", "images")
_LABELS = ("labels", "label", "y", "targets", "target", "classes")
_PICTURE_DIMENSIONS = (3, 4)


def read_npz(file: Path, inputs: str | None, labels: str | None, task: Task | None) -> Examples:
    """Vectors (n, width), uint8 pictures (n, height, width[, channels]) or strings (n,), and labels (n,) if any.

    ``inputs``, ``labels``: names of the arrays, guessed where None. Raises WrongUse where that cannot be read.
    """
    arrays = _arrays(file)
    name = _choose(arrays, inputs, _INPUTS, "--text-column")
    if name is None:
        raise WrongUse(f"which array of {file} holds the inputs? It has {listed(list(arrays))}; say --text-column NAME")
    label = _choose({key: value for key, value in arrays.items() if key != name}, labels, _LABELS, "--label-column")
    found = arrays[name]
    if found.ndim == 0 or not len(found):
        raise WrongUse(f"the array {name} of {file} is empty")
    names = [f"{name}[{row}]" for row in range(len(found))]
    truths = None if label is None else _labels(arrays[label], label, len(found), task)
    said = f"{len(found)} rows; inputs: array {name} {found.shape}; " + (
        "no array of labels" if truths is None else f"labels: array {label} ({kind_of(truths)})"
    )
    if found.dtype.kind == "U":
        return Examples("text", [str(text) for text in found.ravel()], names, truths, (said,))
    if found.ndim in _PICTURE_DIMENSIONS and found.dtype == np.uint8:
        return Examples("image", found, names, truths, (said,))
    return Examples("vector", _vectors(found, name), names, truths, (said,))


def _arrays(file: Path) -> dict[str, Array]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise WrongUse(f"{file} is a single array; save inputs and labels together: numpy.savez")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise WrongUse(
            f"{file} cannot be read as an npz archive of plain arrays ({error}); "
            "numpy.savez(file, inputs=..., labels=...) makes one"
        ) from None


def _choose(arrays: Mapping[str, Array], wanted: str | None, usual: Sequence[str], option: str) -> str | None:
    if wanted is not None:
        if wanted not in arrays:
            raise WrongUse(f"there is no array {wanted!r}; {option} may be one of {listed(list(arrays))}")
        return wanted
    found = [name for known in usual for name in arrays if name.lower() == known]
    return found[0] if found else None


def _labels(array: Array, name: str, n: int, task: Task | None) -> list[Truth | None]:
    if len(array) != n:
        raise WrongUse(f"the array {name} has {len(array)} labels for {n} inputs; both need one row per example")
    if array.ndim == 1 and array.dtype.kind in "US":
        return list(as_labels([str(label) for label in array], task))
    if array.dtype.kind not in "iufb":
        raise WrongUse(f"the array {name} holds neither numbers nor strings")
    if array.ndim == 2:
        return [[float(value) for value in row] for row in array]
    if array.dtype.kind == "f" or task == "regression":
        whole = bool(np.all(array == np.round(array))) and task is None
        return [str(int(value)) if whole else float(value) for value in array]
    return [str(int(label)) for label in array]


def _vectors(array: Array, name: str) -> Array:
    if array.dtype.kind not in "iufb" or array.ndim not in (1, 2):
        raise WrongUse(
            f"the array {name} is {array.dtype} {array.shape}: expected numbers (n, width), strings (n,) or "
            "uint8 pictures (n, height, width)"
        )
    return np.ascontiguousarray(array.reshape(len(array), -1), dtype=np.float32)
