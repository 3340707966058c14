"""What a command was given -> examples: a folder, a table, an archive, pictures, or texts."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kshot.cli.sources.csv_files import Asked, read_csv
from kshot.cli.sources.examples import NOUNS, Examples, Modality, WrongUse
from kshot.cli.sources.folders import PICTURES, read_folder, read_pictures
from kshot.cli.sources.npz_files import read_npz

_TABLES = (".csv", ".tsv")
_FILES = (*_TABLES, ".npz", ".txt", *PICTURES)
STDIN = "-"


def read_labelled(source: Path, asked: Asked) -> Examples:
    """Examples to learn from. Raises WrongUse where there is nothing of that name, it has no labels, or is of
    another kind than the checkpoint takes."""
    if not source.exists():
        raise WrongUse(f"there is no file or folder {source}")
    examples = _read(source, replace(asked, labelled=True))
    _check_kind(examples, asked.modality)
    if examples.labels is None and source.is_dir():
        raise WrongUse(f"the pictures of {source} are in no class folders: put those of each class in one of its own")
    if examples.labels is None:
        raise WrongUse(f"{source} has no labels that could be found; say --label-column NAME")
    return examples


def read_questions(sources: Sequence[str], asked: Asked) -> Examples:
    """Inputs to ask about: one folder, table or archive; or pictures; or texts, as arguments or lines of stdin.

    Raises WrongUse where a name looks like that of a file and there is none, or kinds are mixed.
    """
    examples = _questions(sources, asked)
    _check_kind(examples, asked.modality)
    return examples


def _check_kind(examples: Examples, wanted: Modality | None) -> None:
    """Raise WrongUse where a checkpoint takes something else than these."""
    if wanted is not None and examples.modality != wanted:
        raise WrongUse(f"these are {NOUNS[examples.modality]}, and the checkpoint takes {NOUNS[wanted]}")


def _questions(sources: Sequence[str], asked: Asked) -> Examples:
    if not sources or list(sources) == [STDIN]:
        return _from_stdin()
    paths = [Path(source) for source in sources]
    missing = [path for source, path in zip(sources, paths, strict=True) if not _exists(source)]
    if len(paths) == 1 and not missing:
        return _read(paths[0], asked)
    if not missing:
        if any(path.suffix.lower() not in PICTURES for path in paths):
            raise WrongUse("several sources at once may be pictures only; give one folder, CSV or npz file at a time")
        return read_pictures(paths)
    lost = [path for path in missing if path.suffix.lower() in _FILES]
    if asked.modality in ("image", "vector") or lost or len(missing) < len(paths):
        takes = "" if asked.modality is None else f"; this model is asked about {NOUNS[asked.modality]}"
        raise WrongUse(f"there is no file or folder {(lost or missing)[0]}{takes}")
    return _texts(list(sources))


def _exists(name: str) -> bool:
    """Whether a file or folder is called so; a long text is no name of a file, which some systems say by an error."""
    try:
        return bool(name.strip()) and Path(name).exists()
    except OSError:
        return False


def _read(source: Path, asked: Asked) -> Examples:
    suffix = source.suffix.lower()
    if suffix in _TABLES and asked.modality == "image":
        raise WrongUse("the checkpoint takes pictures: name a folder with one folder of them per class, or their files")
    if source.is_dir():
        return read_folder(source)
    if suffix in _TABLES:
        return read_csv(source, asked)
    if suffix == ".npz":
        return read_npz(source, asked.text, asked.label, asked.task)
    if suffix in PICTURES and not asked.labelled:
        return read_pictures([source])
    if suffix == ".txt" and not asked.labelled:
        return _texts(_lines(source.read_text(encoding="utf-8", errors="replace")))
    raise WrongUse(f"{source} is none of what is read here: a folder of class folders of pictures, .csv, .npz")


def _from_stdin() -> Examples:
    if sys.stdin.isatty():
        raise WrongUse("nothing to ask about: name a file or folder, give texts, or pipe lines of text in")
    return _texts(_lines(sys.stdin.read()))


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _texts(texts: list[str]) -> Examples:
    if not texts:
        raise WrongUse("there are no texts: give some as arguments, or lines of a .txt file or of stdin")
    return Examples("text", texts, list(texts))
