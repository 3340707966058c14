"""Pictures: a folder of class folders, a folder of pictures, single files."""

from pathlib import Path

from kshot.cli.sources.examples import Examples, WrongUse, listed

PICTURES = (".png", ".jpg", ".jpeg")
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


def read_folder(folder: Path) -> Examples:
    """The pictures below a folder. Those in folders of their own have its path as their class (``Greek/alpha``).

    Hidden files are passed over, and so is what is no PNG or JPEG, which is said. Raises WrongUse without any picture.
    """
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not _hidden(file, folder)]
    pictures = [file for file in files if file.suffix.lower() in PICTURES]
    if not pictures:
        raise WrongUse(_nothing_in(folder, files))
    _check_pictures(pictures)
    classes = [file.parent.relative_to(folder).as_posix() for file in pictures]
    labelled = [None if name == "." else name for name in classes]
    names = [file.relative_to(folder).as_posix() for file in pictures]
    known = sorted({name for name in labelled if name is not None})
    said = [f"{len(pictures)} pictures in {len(known)} class folders" if known else f"{len(pictures)} pictures"]
    if len(files) > len(pictures):
        said.append(f"passed over {len(files) - len(pictures)} files that are no PNG or JPEG")
    return Examples("image", pictures, names, list(labelled) if known else None, tuple(said))


def read_pictures(files: list[Path]) -> Examples:
    """Single pictures, without labels."""
    _check_pictures(files)
    return Examples("image", files, [str(file) for file in files])


def _check_pictures(files: list[Path]) -> None:
    """Raise WrongUse where one is no PNG or JPEG by its first bytes: with `auto` the service could not say which."""
    for file in files:
        with file.open("rb") as opened:
            if not opened.read(8).startswith(_SIGNATURES):
                raise WrongUse(f"{file} is no PNG or JPEG, whatever its name says: save it as one, or remove it")


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in file.relative_to(folder).parts)


def _nothing_in(folder: Path, files: list[Path]) -> str:
    others = sorted({file.suffix.lower() for file in files if file.suffix})
    what = f"only {listed(others)} files" if others else "no files"
    return f"{folder} holds {what}: expected one folder per class with PNG or JPEG pictures in it, or name a file"
