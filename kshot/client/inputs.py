"""What callers have (texts, arrays, tables, pictures) -> what a request carries."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kshot.client.requests import Content, json_body, tensor_body
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Array

Inputs = Any
"""Examples or queries, one entry each:

- texts: strings;
- vectors: an array (n, width), a pandas or polars table, or n lists or arrays of numbers;
- pictures: Pillow images, `pathlib.Path` of a PNG or JPEG file, the bytes of one, uint8 arrays (height, width),
  (height, width, 3) or (height, width, 4), or one array (n, height, width[, channels]). As the eye sees them: what the
  checkpoint wants (size, inverted or not) the service does.

Strings are passed on as they are, so that base64 and data URLs of pictures work, too; the path of a file as a string
does not.
"""
Labels = Any
"""One for each example: strings or integers for classes; numbers, or equally long lists of them, for regression; or
mappings ``{target: value or None}`` for several targets. Lists, arrays (n,) or (n, n_targets), pandas columns."""


def as_inputs(inputs: Inputs, param: str) -> Array | list[Any]:
    """Vectors as float32 (n, width); anything else as a list of strings, pictures as base64. Raises Invalid."""
    if isinstance(inputs, str | bytes | Path) or _is_picture(inputs):
        raise Invalid("expected a list of inputs; put a single one into brackets", param=param)
    if hasattr(inputs, "to_numpy"):  # pandas, polars
        inputs = inputs.to_numpy()
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind not in "OUS":
        return _array(inputs, param)
    items = list(inputs)
    if items and all(_is_row(item) for item in items):
        return _rows(items, param)
    return [_value(item, f"{param}[{i}]") for i, item in enumerate(items)]


def as_labels(labels: Labels) -> list[Any]:
    """As JSON has them."""
    if hasattr(labels, "to_numpy"):
        labels = labels.to_numpy()
    listed: Iterable[Any] = labels.tolist() if isinstance(labels, np.ndarray) else labels
    return [_plain(label) for label in listed]


def body_of(
    settings: Mapping[str, Any],
    *,
    support: tuple[Inputs, Labels] | None = None,
    query: Inputs | None = None,
    query_as: str = "query.inputs",
) -> Content:
    """The body of a request with examples, with queries, or both: a safetensors buffer where there are vectors, else
    JSON, with pictures as base64: the names of multipart parts hold no labels but strings, and as parts they save the
    service no time.

    ``query_as``: where its JSON form has the queries. Raises Invalid.
    """
    blocks: dict[str, Array | list[Any]] = {}
    labels: list[Any] | None = None
    if support is not None:
        blocks["support.inputs"], labels = as_inputs(support[0], "support.inputs"), as_labels(support[1])
    if query is not None:
        blocks["query.inputs"] = as_inputs(query, query_as)
    arrays = {name: block for name, block in blocks.items() if isinstance(block, np.ndarray)}
    if arrays:
        rest = {name: block for name, block in blocks.items() if name not in arrays}
        header = {**settings, **rest, **({} if labels is None else {"support.labels": labels})}
        return tensor_body(header, arrays)
    whole = dict(settings)
    if labels is not None:
        whole["support"] = {"inputs": blocks["support.inputs"], "labels": labels}
    if query is not None and query_as == "inputs":
        whole["inputs"] = blocks["query.inputs"]
    elif query is not None:
        whole["query"] = {"inputs": blocks["query.inputs"]}
    return json_body(whole)


def _array(array: Array, param: str) -> Array | list[Any]:
    if array.ndim == 2:
        return _float32(array, param)
    if array.ndim in (3, 4):
        return [_value(picture, f"{param}[{i}]") for i, picture in enumerate(array)]
    raise Invalid(
        f"expected vectors (n, width) or pictures (n, height, width[, channels]), got shape {array.shape}; one "
        "vector is array[None]",
        param=param,
    )


def _is_row(item: object) -> bool:
    """Whether it is one vector: a list of numbers, or an array of one dimension."""
    if isinstance(item, np.ndarray):
        return item.ndim == 1 and item.dtype.kind not in "OUS"
    return isinstance(item, list | tuple)


def _rows(rows: Sequence[Any], param: str) -> Array | list[Any]:
    """Lists that are no rectangle of numbers go as they are: the service names the row that is off."""
    try:
        array = np.array(rows)
    except ValueError:
        array = np.empty(0)
    if array.ndim == 2 and array.dtype.kind in "fiub":
        return _float32(array, param)
    return [_plain(row) for row in rows]


def _float32(array: Array, param: str) -> Array:
    """As the service computes; numbers beyond 32 bits become infinite, which it refuses, naming the row."""
    if array.dtype.kind not in "fiub":
        raise Invalid(f"expected numbers, got {array.dtype}", param=param)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def _value(item: Any, param: str) -> Any:
    if isinstance(item, Path):
        return _base64(_read(item, param))
    if isinstance(item, bytes | bytearray | memoryview):
        return _base64(bytes(item))
    if isinstance(item, np.ndarray):
        return _base64(_png(_picture(item, param)))
    return _base64(_png(item)) if _is_picture(item) else _plain(item)


def _plain(value: Any) -> Any:
    """numpy's scalars and arrays as Python's own."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _is_picture(item: object) -> bool:
    """A Pillow image, without importing Pillow: who has one has imported it."""
    return hasattr(item, "save") and hasattr(item, "getbands")


def _picture(array: Array, param: str) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise Invalid("arrays of pictures need Pillow: pip install pillow", param=param) from error

    flat = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if flat.dtype != np.uint8 or not (flat.ndim == 2 or (flat.ndim == 3 and flat.shape[2] in (3, 4))):
        expected = "uint8 (height, width), (height, width, 3) or (height, width, 4), 0 black and 255 white"
        raise Invalid(f"a picture is {expected}; got {array.dtype} {array.shape}", param=param)
    return Image.fromarray(flat)


def _png(picture: Any) -> bytes:
    """Lossless; quick rather than small."""
    buffer = io.BytesIO()
    fits = picture.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
    (picture if fits else picture.convert("RGB")).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _read(path: Path, param: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Invalid(f"this file cannot be read: {error.strerror}", param=param) from error


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
