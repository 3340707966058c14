"""Pictures in one folder per class, in a zip archive."""

import zipfile
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from kshot.contracts.checkpoints import ImageInput
from kshot.contracts.datasets import Pictures
from kshot.contracts.errors import Invalid, KshotError, UnsupportedMediaType
from kshot.contracts.wire import Array
from kshot.episodes.archives import ArchiveLimits, open_zip, read_entry
from kshot.episodes.pool import Pool, pool_from_labels
from kshot.episodes.rows import check_label
from kshot.inputs.images import decode_image, image_size

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
_UNREAD = frozenset({".bmp", ".gif", ".heic", ".jp2", ".tif", ".tiff", ".webp"})
_OTHER_KINDS = (b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP", b"\0\0\0\x18ftyp", b"<")
"""How pictures begin that are whole, and of a kind that is not read."""
_LOOK = ImageInput(height=32, width=32, channels=3, fit="stretch")
_THUMBNAIL = ImageInput(height=96, width=96, channels=3)
_LOOKED_AT = 300
_COLOURLESS = 8
"""Of 255: JPEG's rounding tints grey a little."""


@dataclass(frozen=True)
class _Picture:
    """``number``: of its entry in the archive, from 1; ``label``: the folders it lies in, without the common root."""

    number: int
    name: str
    label: str


def read_image_zip(
    source: bytes | Path,
    spec: ImageInput,
    classes: Collection[str] | None = None,
    limits: ArchiveLimits = ArchiveLimits(),  # noqa: B008 - frozen
) -> Pool:
    """A pool from an archive of ``class/picture.png``; folders may be nested (``alphabet/character/picture.png``).

    A class is named by its whole path, without the folders that all of them lie in.
    ``classes``: read no other than these.
    Raises Invalid or TooLarge as :func:`kshot.episodes.archives.open_zip` does, and Invalid where a picture
    is damaged.
    """
    with open_zip(source, limits) as archive:
        pictures = sorted(_pictures(archive), key=lambda picture: picture.name.split("/"))
        wanted = [picture for picture in pictures if classes is None or picture.label in classes]
        if not wanted:
            raise Invalid("the archive has no pictures of these classes")
        decoded = np.empty((len(wanted), spec.height, spec.width, spec.channels), np.uint8)
        for i, picture in enumerate(wanted):
            decoded[i] = _decode(archive, picture, spec)
    return pool_from_labels(decoded, [picture.label for picture in wanted])


def survey_image_zip(source: bytes | Path) -> tuple[Counter[str], Pictures]:
    """Examples per class, and what the pictures are like. Every picture is decoded; one that cannot be is named by the
    number of its entry. Raises as :func:`read_image_zip`, and UnsupportedMediaType for other kinds of picture."""
    with open_zip(source) as archive:
        pictures = _pictures(archive)
        step = max(1, len(pictures) // _LOOKED_AT)
        looks, sizes = [], []
        for i, picture in enumerate(pictures):
            look = _decode(archive, picture, _LOOK)
            if i % step == 0:
                looks.append(look)
                sizes.append(image_size(read_entry(archive, picture.name)))
    return Counter(picture.label for picture in pictures), _describe(np.stack(looks), sizes)


def sample_pictures(source: bytes | Path, most: int) -> list[tuple[str, Array]]:
    """(class, uint8 (96, 96, 3)) of up to ``most`` pictures, the first of each class before the second of any."""
    with open_zip(source) as archive:
        pictures = sorted(_pictures(archive), key=lambda picture: picture.name.split("/"))
        seen: Counter[str] = Counter()
        turns = []
        for picture in pictures:
            turns.append((seen[picture.label], picture.name.split("/"), picture))
            seen[picture.label] += 1
        chosen = [picture for _, _, picture in sorted(turns, key=lambda turn: turn[:2])[:most]]
        return [(picture.label, _decode(archive, picture, _THUMBNAIL)) for picture in chosen]


def _describe(looks: Array, sizes: Sequence[tuple[int, int]]) -> Pictures:
    """``looks``: uint8 (n, 32, 32, 3)."""
    colour = looks.max(axis=3) - looks.min(axis=3)
    width, height = (int(np.median(side)) for side in zip(*sizes, strict=True))
    return Pictures(
        greyscale=bool((colour <= _COLOURLESS).all()),
        width=width,
        height=height,
        dark_on_light=bool(np.median(looks) > 127),
    )


def _decode(archive: zipfile.ZipFile, picture: _Picture, spec: ImageInput) -> Array:
    data = read_entry(archive, picture.name)
    try:
        return decode_image(data, spec)
    except KshotError as error:
        refusal, message = type(error), error.message
        if refusal is UnsupportedMediaType and not data.startswith(_OTHER_KINDS):
            refusal, message = Invalid, "the image is damaged: it is neither PNG nor JPEG, as its name says"
        raise refusal(f"entry {picture.number} of the archive: {message}", param="file") from error


def _pictures(archive: zipfile.ZipFile) -> list[_Picture]:
    """In the order of the archive. Raises Invalid where there are none, or some outside of any folder."""
    names = archive.namelist()
    found = [(number, PurePosixPath(name)) for number, name in enumerate(names, 1) if not _is_hidden(name)]
    for number, path in found:
        if path.suffix.lower() in _UNREAD:
            raise UnsupportedMediaType(
                f"entry {number} of the archive: only PNG and JPEG images are read", param="file"
            )
    found = [(number, path) for number, path in found if path.suffix.lower() in _SUFFIXES]
    folders = [path.parts[:-1] for _, path in found]
    if not found or () in folders:
        raise Invalid("expected pictures (PNG or JPEG) in one folder per class", param="file")
    root = _common_root(folders)
    return [
        _Picture(number, names[number - 1], check_label("/".join(folder[root:]), number, "entry"))
        for (number, _), folder in zip(found, folders, strict=True)
    ]


def _common_root(folders: Sequence[tuple[str, ...]]) -> int:
    """How many leading folders all classes share; one folder is left to name a class by."""
    first, last = min(folders), max(folders)
    most = min(map(len, folders)) - 1
    return next((i for i in range(most) if first[i] != last[i]), most)


def _is_hidden(name: str) -> bool:
    return name.endswith("/") or any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
