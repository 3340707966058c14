"""Raw inputs -> canonical arrays, and everything that must be refused on the way."""

import base64
import io
import random
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kshot.contracts.checkpoints import ImageInput, TextInput, VectorInput
from kshot.contracts.errors import Invalid, KshotError, UnsupportedMediaType
from kshot.inputs import check_tensor, decode_files, decode_image, decode_values, input_shape

GREY = ImageInput(height=8, width=8, channels=1)
COLOUR = ImageInput(height=8, width=8, channels=3)
STRETCH = ImageInput(height=8, width=8, channels=3, fit="stretch")


def file(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def png_of_size(width: int, height: int) -> bytes:
    """A greyscale PNG of zeros, however large, in a few kilobytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    compressor = zlib.compressobj(9)
    row = bytes((width + 7) // 8 + 1)
    rows = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def halves(width: int, height: int) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (width // 2, 0, width, height))
    return image


def test_png_and_jpeg_become_arrays_of_the_spec() -> None:
    for kind in ("PNG", "JPEG"):
        array = decode_image(file(Image.new("RGB", (40, 30), (200, 10, 10)), kind), COLOUR)
        assert array.shape == (8, 8, 3) and array.dtype == np.uint8
        assert abs(int(array[4, 4, 0]) - 200) <= 2
    assert decode_image(file(Image.new("RGB", (40, 30), "red")), GREY).shape == (8, 8, 1)
    assert (decode_image(file(Image.new("L", (5, 5), 77)), COLOUR) == 77).all()


def test_crop_takes_the_centre_and_stretch_keeps_everything() -> None:
    image = Image.new("RGB", (80, 20), "red")
    image.paste("blue", (30, 0, 50, 20))
    assert (decode_image(file(image), COLOUR)[:, 1:-1] == [0, 0, 255]).all()
    stretched = decode_image(file(image), STRETCH)
    assert (stretched[:, 0] == [255, 0, 0]).all() and (stretched[:, 4, 2] > 200).all()


def test_a_very_thin_image_costs_no_more_than_it_should() -> None:
    assert decode_image(png_of_size(1, 200_000), ImageInput(height=224, width=224, channels=3)).shape == (224, 224, 3)


def test_invert_turns_ink_white() -> None:
    inverted = ImageInput(height=8, width=8, channels=1, invert=True)
    assert (decode_image(file(Image.new("L", (9, 9), 255)), inverted) == 0).all()


def test_transparency_lies_on_white() -> None:
    for image in (
        Image.new("RGBA", (9, 9), (0, 0, 0, 0)),
        Image.new("LA", (9, 9), (0, 0)),
    ):
        assert (decode_image(file(image), COLOUR) == 255).all()
    palette = Image.new("RGB", (9, 9), "blue").quantize(4)
    assert (decode_image(file(palette, transparency=palette.getpixel((0, 0))), COLOUR) == 255).all()


def test_sixteen_bit_greyscale_is_scaled_not_clipped() -> None:
    image = Image.fromarray(np.full((9, 9), 128 * 257, dtype=np.uint16))
    assert (decode_image(file(image), GREY) == 128).all()


def test_exif_orientation_is_honoured_and_broken_exif_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image = halves(64, 64)
    turned = decode_image(file(image, "JPEG", exif=exif.tobytes()), COLOUR)
    assert turned[4, 0, 2] > 200 and turned[4, 7, 0] > 200
    broken = decode_image(file(image, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), COLOUR)
    assert broken[4, 0, 0] > 200


def test_a_cmyk_jpeg_is_read() -> None:
    assert decode_image(file(Image.new("CMYK", (20, 20)), "JPEG"), COLOUR).shape == (8, 8, 3)


@pytest.mark.reliability("bad input: PNG bomb", "bomb")
def test_png_bomb_is_refused_from_its_header() -> None:
    bomb = png_of_size(9000, 9000)
    assert len(bomb) < 20_000
    with pytest.raises(Invalid, match="megapixels"):
        decode_image(bomb, COLOUR)


def test_many_images_that_unfold_together_are_refused() -> None:
    heavy = png_of_size(4900, 4900)
    with pytest.raises(Invalid, match="together"):
        decode_files([heavy] * 20, COLOUR, "support.inputs")


@pytest.mark.parametrize("format", ["GIF", "TIFF", "EPS", "BMP", "WEBP", "PPM", "ICO"])
def test_other_image_formats_are_unsupported(format: str) -> None:
    data = file(Image.new("RGB", (16, 16)), format)
    with pytest.raises(UnsupportedMediaType):
        decode_image(data, COLOUR)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_truncated_image_is_invalid(format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = file(Image.fromarray(noise), format)
    for keep in (9, 20, 40, len(data) // 2):
        with pytest.raises(Invalid, match=r"damaged|pixels"):
            decode_image(data[:keep], COLOUR)


def test_damaged_bytes_never_raise_anything_else() -> None:
    chance = random.Random(0)
    seeds = [file(halves(32, 32)), file(halves(32, 32), "JPEG"), file(halves(32, 32).convert("P"))]
    for _ in range(600):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            assert decode_image(bytes(data), COLOUR).shape == (8, 8, 3)
        except KshotError as error:
            assert error.status in (415, 422)


def test_images_as_base64_and_data_urls() -> None:
    data = file(Image.new("L", (8, 8), 9))
    values = [b64(data), "data:image/png;base64," + b64(data)]
    inputs = decode_values(values, GREY, "support.inputs")
    assert isinstance(inputs, np.ndarray) and inputs.shape == (2, 8, 8, 1) and (inputs == 9).all()
    assert input_shape(inputs) == (8, 8, 1)


@pytest.mark.parametrize(
    "bad",
    [
        "https://example.com/cat.png", "file:///etc/passwd", "http://169.254.169.254/", "//host/cat.png", "s3://b/k",
        "!!!", "abc", "QUJ\nDQUJD", "", "é", 5, None, ["QUJD"], "data:image/png,QUJD",
    ],
)  # fmt: skip
def test_strings_that_are_no_base64_image_are_invalid(bad: object) -> None:
    good = b64(file(Image.new("L", (8, 8))))
    with pytest.raises(Invalid) as caught:
        decode_values([good, bad], GREY, "support.inputs")
    assert caught.value.param == "support.inputs[1]"


def test_any_url_says_that_nothing_is_fetched() -> None:
    with pytest.raises(Invalid, match="fetched"):
        decode_values(["https://example.com/cat.png"], GREY)
    with pytest.raises(UnsupportedMediaType):
        decode_values(["data:image/gif;base64,R0lGODlh"], GREY)


def test_vectors() -> None:
    inputs = decode_values([[1, 2.5], [0, -1]], VectorInput())
    assert isinstance(inputs, np.ndarray) and inputs.dtype == np.float32 and input_shape(inputs) == (2,)
    assert inputs.tolist() == [[1.0, 2.5], [0.0, -1.0]]


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ([[1.0], [1.0, 2.0]], "x[1]"),
        ([[1.0], ["1"]], "x[1][0]"),
        ([[1.0], [True]], "x[1][0]"),
        ([[1.0], [None]], "x[1][0]"),
        ([[1.0], [[1.0]]], "x[1][0]"),
        ([[1.0], []], "x[1]"),
        ([[1.0], 1.0], "x[1]"),
        ([[1.0], "a text"], "x[1]"),
        ([[1.0], [1e39]], "x[1]"),
        ([[1.0], [float("nan")]], "x[1]"),
        ([[1.0], [10**400]], "x"),
    ],
)
def test_vectors_that_are_refused(values: list[object], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        decode_values(values, VectorInput(), "x")
    assert caught.value.param == param


def test_wrong_vector_width_names_the_expected_one() -> None:
    with pytest.raises(Invalid, match="a list of 3 numbers"):
        decode_values([[1.0, 2.0]], VectorInput(width=3))
    with pytest.raises(Invalid, match="a list of 3 numbers"):
        check_tensor(np.zeros((2, 2), np.float32), VectorInput(width=3))


@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3), min_size=1)
)
@settings(max_examples=50)
def test_every_finite_float32_survives(rows: list[list[float]]) -> None:
    inputs = decode_values(rows, VectorInput(width=3))
    assert isinstance(inputs, np.ndarray) and inputs.tolist() == rows


@pytest.mark.parametrize("bad", ["", "  \n", "a\x00b", "a\ud800", "x" * 21, 5, None, ["a"]])
def test_texts_that_are_refused(bad: object) -> None:
    with pytest.raises(Invalid) as caught:
        decode_values(["fine", bad], TextInput(max_chars=20), "query.inputs")
    assert caught.value.param == "query.inputs[1]"


def test_a_url_is_a_fine_text() -> None:
    assert decode_values(["https://example.com"], TextInput()) == ["https://example.com"]


def test_tensors_are_checked_against_the_spec() -> None:
    image = np.zeros((2, 8, 8, 1), np.uint8)
    assert check_tensor(image, GREY) is image
    assert check_tensor(np.ones((2, 3), np.int64), VectorInput()).dtype == np.float32  # type: ignore[union-attr]
    for tensor, spec in (
        (np.zeros((2, 9, 8, 1), np.uint8), GREY),
        (image.astype(np.float32), GREY),
        (np.zeros((8, 8, 1), np.uint8), GREY),
        (np.zeros(3, np.float32), VectorInput()),
        (np.zeros((3, 0), np.float32), VectorInput()),
        (np.full((1, 2), np.nan, np.float32), VectorInput()),
        (np.full((1, 2), 1e300), VectorInput()),
        (np.zeros((1, 2), np.bool_), VectorInput()),
        (np.zeros((1, 2), np.float32), TextInput()),
    ):
        with pytest.raises(Invalid):
            check_tensor(tensor, spec)


def test_files_for_texts_and_vectors() -> None:
    assert decode_files(["grün".encode()], TextInput()) == ["grün"]
    for data, spec in ((b"\xff\xfe", TextInput()), (b"1,2", VectorInput())):
        with pytest.raises(Invalid):
            decode_files([data], spec)
