"""Decoders of files: pictures, arrays, data sets."""

import os
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from kshot.contracts.checkpoints import ImageInput, InputSpec, TextInput, VectorInput
from kshot.contracts.datasets import Columns
from kshot.episodes.archives import parse_npy, read_npz
from kshot.episodes.datasets import Asked, inspect
from kshot.episodes.formats import READERS
from kshot.episodes.samples import look_into
from kshot.inputs import decode_image, decode_values
from tests.fuzzing.decoder import Decoder
from tests.fuzzing.file_samples import (
    TARGETS,
    base64s,
    jpeg_of_size,
    jpegs,
    jsonl,
    lying_npy,
    npys,
    npz_file,
    pngs,
    tables,
    vectors_csv,
    zip_bombs,
)
from tests.fuzzing.words import CSV, JPEG, JSON_LINES, NPY, PNG, ZIP
from tests.kshot.episodes.dataset_files import npz, picture_zip, text_csv
from tests.kshot.test_inputs import png_of_size

SPECS = (ImageInput(height=8, width=8, channels=3), ImageInput(height=8, width=6, channels=1, fit="stretch"))
_DATASET = "ds_01J9ZK3V7Q8W5R2M4N6P0T1XYA"


def file_decoders() -> list[Decoder]:
    """One for each format of files that callers send."""
    return [
        Decoder("png", _image, pngs(), PNG, _with_checksums, (png_of_size(9000, 9000), png_of_size(4900, 4900))),
        Decoder("jpeg", _image, jpegs(), JPEG, None, (jpeg_of_size(65_000, 65_000),)),
        Decoder(
            "base64", _base64, base64s(), (b"data:", b"image/png", b";base64", b",", b"=", b"+/", b"-_", b"\n", b"//")
        ),
        Decoder("npy", _npy, npys(), NPY, _with_length, (lying_npy(),)),
        Decoder(
            "npz",
            _npz,
            (npz_file(), npz(inputs=np.eye(3), labels=np.arange(3))),
            ZIP + NPY,
            None,
            zip_bombs("x.npy"),
        ),
        _dataset(
            "image_zip", (picture_zip(3, 2), picture_zip(2, 1, kind="JPEG", colour=True)), ZIP, zip_bombs("a/1.png")
        ),
        _dataset("vector_npz", (npz_file(), npz(inputs=np.eye(4), labels=np.array(["a", "b", "a", "b"]))), ZIP + NPY),
        _dataset(
            "text_csv",
            (text_csv(3, 2), b'text,label\r\n"a ""b""",x\r\nc,y\r\n'),
            CSV,
            (b'text,label\n"' + b"x" * 300_000,),
        ),
        _dataset("text_jsonl", jsonl(), JSON_LINES, (b'{"text":' + b"[" * 150_000,)),
        _dataset("vector_csv", (vectors_csv(), b"label,a,b\r\nx,1,2\r\ny,3,4\r\n"), CSV, (b"label" + b",a" * 70_000,)),
        _dataset("table_csv", tables(), (*CSV, b"score", b"kind", b"g1"), (), TARGETS),
    ]


def _image(data: bytes) -> None:
    spec = SPECS[len(data) % 2]
    pixels = decode_image(data, spec)
    assert pixels.shape == (spec.height, spec.width, spec.channels) and pixels.dtype == np.uint8


def _base64(data: bytes) -> None:
    found = decode_values([data.decode("utf-8", "surrogateescape")], SPECS[1], "inputs")
    assert isinstance(found, np.ndarray) and found.shape == (1, 8, 6, 1)


def _npy(data: bytes) -> None:
    array = parse_npy(data)
    assert array.nbytes <= len(data) and array.dtype.kind in "biufUS" and not array.flags.writeable


def _npz(data: bytes) -> None:
    for array in read_npz(data).values():
        assert array.dtype.kind in "biufUS"


def _dataset(
    format: Any,
    samples: tuple[bytes, ...],
    tokens: tuple[bytes, ...],
    bombs: tuple[bytes, ...] = (),
    columns: Columns | None = None,
) -> Decoder:
    def decode(data: bytes) -> None:
        """Whatever is accepted can be read and shown afterwards, and holds what was counted."""
        file = in_memory(data)
        found = inspect(file, Asked(_DATASET, "mine", f"data{READERS[format].suffix}", columns=columns or Columns()))
        reader = READERS[found.format]
        names = {name for part in found.splits.values() for name in part}
        if reader.pool is not None:
            pool = reader.pool(file, found.columns, _spec(found.modality, found.width), names)
            assert found.n_examples <= len(pool.inputs) and names <= set(pool.classes)
        assert found.n_examples > 0 and len(list(look_into(file, found, 5))) > 0
        found.model_dump_json()

    return Decoder(format, decode, samples, tokens, None, bombs)


def _spec(modality: str, width: int | None) -> InputSpec:
    return {"image": SPECS[0], "text": TextInput()}.get(modality, VectorInput(width=width))


@cache
def _memory() -> int:
    return os.memfd_create("fuzzed")


def in_memory(data: bytes) -> Path:
    """A file of these bytes that no disk sees; the next call overwrites it."""
    memory = _memory()
    os.ftruncate(memory, 0)
    os.pwrite(memory, data, 0)
    return Path(f"/proc/self/fd/{memory}")


def _with_checksums(data: bytes) -> bytes:
    """Each chunk of a PNG with the checksum it ought to have."""
    mended, at = bytearray(data), 8
    while at + 12 <= len(mended):
        length = int.from_bytes(mended[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = zlib.crc32(mended[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(mended)


def _with_length(data: bytes) -> bytes:
    """The length of an npy header as it is: up to its line break."""
    end = data.find(b"\n", 10)
    return data if end < 0 or len(data) < 10 else data[:8] + struct.pack("<H", (end + 1 - 10) & 0xFFFF) + data[10:]
