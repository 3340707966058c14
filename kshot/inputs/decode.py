"""One entry per form in which a caller sends inputs: JSON values, files, tensors."""

from collections.abc import Sequence
from typing import assert_never

import numpy as np

from kshot.contracts.checkpoints import ImageInput, InputSpec, TextInput, VectorInput
from kshot.contracts.errors import Invalid
from kshot.contracts.wire import Array, Inputs
from kshot.inputs.encoded import decode_base64_image
from kshot.inputs.images import check_total_pixels, decode_image
from kshot.inputs.texts import check_texts
from kshot.inputs.vectors import check_vector_tensor, read_vectors


def decode_values(values: Sequence[object], spec: InputSpec, param: str = "inputs") -> Inputs:
    """JSON values -> canonical inputs: base64 or data-URL strings, lists of numbers, or strings.

    ``param`` is the request field they came in; errors name ``param[i]``. Raises Invalid, UnsupportedMediaType.
    """
    match spec:
        case ImageInput():
            files = [decode_base64_image(value, f"{param}[{i}]", describe(spec)) for i, value in enumerate(values)]
            return _images(files, spec, param)
        case VectorInput():
            return read_vectors(values, spec, param)
        case TextInput():
            return check_texts(values, spec, param)
        case _:
            assert_never(spec)


def decode_files(files: Sequence[bytes], spec: InputSpec, param: str = "inputs") -> Inputs:
    """Whole files, one input each, as multipart bodies and data sets bring them: PNG or JPEG, or UTF-8 text."""
    match spec:
        case ImageInput():
            return _images(files, spec, param)
        case TextInput():
            return check_texts([_utf8(file, f"{param}[{i}]") for i, file in enumerate(files)], spec, param)
        case VectorInput():
            raise Invalid("vectors cannot be sent as files; send JSON or application/vnd.safetensors", param=param)
        case _:
            assert_never(spec)


def check_tensor(tensor: Array, spec: InputSpec, param: str = "inputs") -> Inputs:
    """A tensor as a binary body brings it, checked against the spec; vectors become float32."""
    match spec:
        case ImageInput():
            shape = (spec.height, spec.width, spec.channels)
            if tensor.dtype != np.uint8 or tensor.shape[1:] != shape or tensor.ndim != 4:
                wanted = f"uint8 of shape (n, {spec.height}, {spec.width}, {spec.channels})"
                raise Invalid(f"expected {wanted}, got {tensor.dtype} of shape {tensor.shape}", param=param)
            return tensor
        case VectorInput():
            return check_vector_tensor(tensor, spec, param)
        case TextInput():
            raise Invalid("texts are no tensor; put the list of strings into the header entry", param=param)
        case _:
            assert_never(spec)


def describe(spec: InputSpec) -> str:
    """What one input must look like, for error messages and the limits page."""
    match spec:
        case ImageInput():
            colour = "greyscale" if spec.channels == 1 else "colour"
            return f"a PNG or JPEG image (it becomes {spec.height} x {spec.width}, {colour})"
        case VectorInput():
            return "a list of numbers" if spec.width is None else f"a list of {spec.width} numbers"
        case TextInput():
            return f"a non-empty string of at most {spec.max_chars} characters"
        case _:
            assert_never(spec)


def input_shape(inputs: Inputs) -> tuple[int, ...]:
    """Shape of one input: (height, width, channels), (width,), or () for a text."""
    return () if isinstance(inputs, list) else tuple(inputs.shape[1:])


def _images(files: Sequence[bytes], spec: ImageInput, param: str) -> Array:
    check_total_pixels(files, param)
    images = np.empty((len(files), spec.height, spec.width, spec.channels), dtype=np.uint8)
    for i, file in enumerate(files):
        images[i] = decode_image(file, spec, f"{param}[{i}]")
    return images


def _utf8(file: bytes, param: str) -> str:
    try:
        return file.decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid("this text is not UTF-8", param=param) from None
