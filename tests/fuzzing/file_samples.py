"""Valid files of every format, made here: small, and each a different road through its decoder; and bombs."""

import base64
import io
import json
import struct
from typing import Any

import numpy as np
from PIL import Image

from kshot.contracts.datasets import Columns
from tests.kshot.episodes.dataset_files import npz, zipped


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _noise(*shape: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(shape).integers(0, 256, shape, dtype=np.uint8))


def pngs() -> tuple[bytes, ...]:
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 65536, (9, 9), dtype=np.uint16))
    palette = _noise(12, 10, 3).quantize(8)
    return (
        saved(_noise(12, 12, 3)),
        saved(_noise(9, 14)),
        saved(_noise(8, 8, 4)),
        saved(wide),
        saved(palette, transparency=2),
        saved(_noise(8, 8).convert("1")),
        saved(_noise(9, 9, 2)),
        saved(_noise(8, 8, 3), optimize=True, dpi=(72, 72)),
    )


def jpegs() -> tuple[bytes, ...]:
    exif = Image.Exif()
    exif[0x0112] = 6
    cmyk = Image.fromarray(np.asarray(_noise(16, 16, 4)), "CMYK")
    return (
        saved(_noise(24, 24, 3), "JPEG"),
        saved(_noise(16, 24), "JPEG"),
        saved(_noise(24, 24, 3), "JPEG", progressive=True),
        saved(cmyk, "JPEG"),
        saved(_noise(16, 16, 3), "JPEG", exif=exif.tobytes(), quality=20, subsampling=2),
    )


def drawing_and_photo() -> tuple[bytes, bytes]:
    """Two pictures that most decoders would take: a small PNG in grey and a JPEG in colour."""
    return pngs()[1], jpegs()[0]


def jpeg_of_size(width: int, height: int) -> bytes:
    """A small JPEG whose header speaks of a large one."""
    data = bytearray(jpegs()[0])
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def base64s() -> tuple[bytes, ...]:
    plain = [base64.b64encode(file) for file in (pngs()[1], jpegs()[1])]
    return (*plain, b"data:image/png;base64," + plain[0], b"data:image/jpeg;name=x;base64," + plain[1])


def npys() -> tuple[bytes, ...]:
    arrays = (
        np.eye(3, dtype=np.float32),
        np.array(["ab", "c"]),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array(7),
        np.array([True]),
    )
    return tuple(_as_npy(array) for array in arrays)


def _as_npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def lying_npy() -> bytes:
    return npys()[0].replace(b"(3, 3)", b"(10**9,)"[:6].ljust(6))


def npz_file() -> bytes:
    return npz(inputs=np.arange(12, dtype=np.float32).reshape(4, 3), labels=np.array([0, 0, 1, 1]))


def zip_bombs(name: str) -> tuple[bytes, ...]:
    """One entry that expands ten thousand times, and many entries of nothing."""
    return zipped({name: bytes(30_000_000)}), zipped({f"{i}/{name}": b"" for i in range(3000)})


def jsonl() -> tuple[bytes, ...]:
    rows = [{"text": f"say {i}", "label": label} for i in range(3) for label in ("a", "b", "é")]
    numbered = [{"label": i % 2, "text": "x", "more": [1, {"y": None}]} for i in range(4)]
    return tuple("\n".join(map(json.dumps, some)).encode() for some in (rows, numbered))


def vectors_csv() -> bytes:
    return b"a,label,b\n" + b"".join(b"%d,c%d,%d.5\n" % (i, i % 3, i) for i in range(9))


TARGETS = Columns(targets={"score": "regression", "kind": "classification"}, group="g")


def tables() -> tuple[bytes, ...]:
    rows = [
        b"%d,%d.25,%s,%s,g%d" % (i, i, b"" if i % 3 == 0 else b"%d" % i, b"ab"[i % 2 : i % 2 + 1], i % 4)
        for i in range(12)
    ]
    return b"a,b,score,kind,g\n" + b"\n".join(rows), b"g,kind,score,x\r\n1,u,,0\r\n2,v,1.5,1\r\n3,u,2,2\r\n"
