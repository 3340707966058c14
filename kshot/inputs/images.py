"""PNG and JPEG files -> canonical uint8 images. Every cap is checked from the header, before anything is decoded."""

import io
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from kshot.contracts.checkpoints import ImageInput
from kshot.contracts.errors import Invalid, KshotError, UnsupportedMediaType

MAX_PIXELS = 25_000_000
"""Of one image: a 24-megapixel photo passes, a 9000 x 9000 bomb does not."""
MAX_PIXELS_PER_REQUEST = 250_000_000
"""Of all images of one list: thousands of small files that each unfold to the cap are a bomb, too."""

_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}


def decode_image(data: bytes, spec: ImageInput, param: str | None = None) -> NDArray[np.uint8]:
    """A PNG or JPEG file -> uint8 (height, width, channels) as the spec says.

    Upright by its EXIF orientation, transparency on white, scaled with an antialiasing filter.
    Raises UnsupportedMediaType for any other format; Invalid for too many pixels, a damaged or truncated file.
    """
    image = _open(data, param)
    try:
        # A JPEG decodes straight to a smaller scale; twice the target leaves the resampling filter enough to work with.
        image.draft(None, (2 * max(spec.height, spec.width),) * 2)
        image.load()
        flat = _flatten(_upright(image), "L" if spec.channels == 1 else "RGB")
        pixels = np.asarray(_fit(flat, spec)).reshape(spec.height, spec.width, spec.channels)
    except Exception as error:  # a decoder on foreign bytes raises nearly anything; none of it is our fault
        raise Invalid("the image is damaged or truncated", param=param) from error
    return np.invert(pixels) if spec.invert else pixels


def image_size(data: bytes, param: str | None = None) -> tuple[int, int]:
    """(width, height) from the header alone. Raises as `decode_image`."""
    return _open(data, param).size


def check_total_pixels(files: Sequence[bytes], param: str) -> None:
    """Raise Invalid where the files together would unfold to more pixels than one request may."""
    total = 0
    for i, data in enumerate(files):
        width, height = image_size(data, f"{param}[{i}]")
        total += width * height
        if total > MAX_PIXELS_PER_REQUEST:
            limit = MAX_PIXELS_PER_REQUEST // 1_000_000
            raise Invalid(f"these images have more than {limit} megapixels together; send smaller ones", param=param)


def _open(data: bytes, param: str | None) -> Image.Image:
    """Read the header only. Pillow's own sniffing would try many formats and plugins; ours tries two."""
    kind = next((name for signature, name in _SIGNATURES.items() if data.startswith(signature)), None)
    if kind is None:
        raise UnsupportedMediaType("only PNG and JPEG images are read", param=param)
    if kind == "PNG":
        _check_size(*_png_size(data), param)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about what we answer ourselves
            image = Image.open(io.BytesIO(data), formats=[kind])
        _check_size(*image.size, param)
    except KshotError:
        raise
    except Exception as error:
        raise Invalid("the image is damaged or truncated", param=param) from error
    return image


def _png_size(data: bytes) -> tuple[int, int]:
    """IHDR comes first; Pillow would already inflate text chunks on its way to the pixels."""
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _check_size(width: int, height: int, param: str | None) -> None:
    if width * height > MAX_PIXELS:
        limit = MAX_PIXELS // 1_000_000
        raise Invalid(f"the image has {width} x {height} pixels; at most {limit} megapixels are read", param=param)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF in a sound image is common; the pixels count
        return image


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    """To 8 bits without transparency."""
    if image.mode.startswith("I"):  # 16-bit greyscale, which Pillow's own conversion would clip
        image = Image.fromarray((np.asarray(image).astype(np.uint32) // 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image if image.mode == mode else image.convert(mode)


def _fit(image: Image.Image, spec: ImageInput) -> Image.Image:
    """Scale to (spec.width, spec.height); ``crop`` takes the largest centred box of the wanted aspect ratio first."""
    width, height = image.size
    box: tuple[float, float, float, float] = (0, 0, width, height)
    if spec.fit == "crop":
        scale = min(width / spec.width, height / spec.height)
        left, top = (width - scale * spec.width) / 2, (height - scale * spec.height) / 2
        box = (left, top, left + scale * spec.width, top + scale * spec.height)
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    return image.resize((spec.width, spec.height), filters[spec.interpolation], box=box)
