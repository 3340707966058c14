"""The data sets as an administrator would have them on disk: a zip of picture folders, a CSV file."""

import io
import zipfile
from pathlib import Path

from PIL import Image

from kshot.episodes.omniglot import read_omniglot


def drawings_zip(data: Path, out: Path) -> Path:
    """All Omniglot characters for training (train and valid of the Vinyals split) as PNG files, black on white, one
    folder per alphabet and character."""
    pool = read_omniglot(data / "omniglot/omniglot28_bits.npz", "trainval")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, rows in zip(pool.classes, pool.rows, strict=True):
            for drawer, row in enumerate(rows):
                picture = io.BytesIO()
                Image.fromarray(255 - pool.inputs[int(row)][:, :, 0]).convert("1").save(picture, "PNG")
                archive.writestr(f"drawings/{name}/{drawer + 1:02}.png", picture.getvalue())
    return out
