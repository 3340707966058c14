"""Pictures in one folder per class, on disk or in a zip archive."""

from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from kshot.contracts.checkpoints import ImageInput
from kshot.contracts.errors import Invalid
from kshot.episodes.archives import ArchiveLimits, open_zip, read_entry
from kshot.episodes.pool import Pool, pool_from_labels
from kshot.inputs.images import decode_image

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})


def read_image_folder(folder: Path, spec: ImageInput) -> Pool:
    """A pool from ``folder/class/picture.png``. Links are not followed; other files are left alone.

    Raises Invalid where there are no pictures, or where one is damaged.
    """
    files = sorted(file for file in folder.glob("*/*") if _is_picture(PurePosixPath(file.name)))
    plain = [file for file in files if file.is_file() and not file.is_symlink() and not file.parent.is_symlink()]
    return _pool(((file.parent.name, file.read_bytes()) for file in plain), spec)


def read_image_zip(
    source: bytes | Path,
    spec: ImageInput,
    classes: Collection[str] | None = None,
    limits: ArchiveLimits = ArchiveLimits(),  # noqa: B008 - frozen
) -> Pool:
    """A pool from an archive of ``class/picture.png``, or of one folder that holds such folders.

    ``classes``: read no other than these.
    Raises Invalid or TooLarge as :func:`kshot.episodes.archives.open_zip` does, and Invalid where a picture
    is damaged.
    """
    with open_zip(source, limits) as archive:
        paths = sorted(PurePosixPath(name) for name in archive.namelist())
        wanted = [p for p in paths if _is_picture(p) and (classes is None or p.parent.name in classes)]
        return _pool(((path.parent.name, read_entry(archive, str(path))) for path in wanted), spec)


def _pool(pictures: Iterator[tuple[str, bytes]], spec: ImageInput) -> Pool:
    decoded, labels = [], []
    for label, data in pictures:
        decoded.append(decode_image(data, spec))
        labels.append(label)
    if not decoded or "" in labels:
        raise Invalid("expected pictures (PNG or JPEG) in one folder per class")
    return pool_from_labels(np.stack(decoded), labels)


def _is_picture(name: PurePosixPath) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in name.parts)
    return name.suffix.lower() in _SUFFIXES and not hidden
