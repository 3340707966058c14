"""Sending a data set: a file as it is, a folder of class folders as a zip."""

import re
import tempfile
import zipfile
from pathlib import Path

from kshot.cli.sources.csv_files import usual_columns
from kshot.cli.sources.examples import WrongUse
from kshot.cli.sources.folders import read_folder
from kshot.client import Client
from kshot.contracts.dataset_bodies import Dataset

_LONGEST_NAME = 63


def name_for(source: Path) -> str:
    """A data set's name after its file: ``My Letters.zip`` becomes ``my-letters``."""
    name = re.sub(r"[^a-z0-9]+", "-", source.resolve().stem.lower()).strip("-")[:_LONGEST_NAME]
    if not name:
        raise WrongUse(f"no name can be made of {source}; say --name")
    return name


def upload(
    client: Client, source: Path, name: str, label: str | None = None, text: str | None = None, description: str = ""
) -> Dataset:
    """The data set made of a file or folder. ``label``, ``text``: columns, where they have not the usual names."""
    if not source.exists():
        raise WrongUse(f"there is no file or folder {source}")
    if source.is_file() and source.suffix.lower() == ".csv":
        usual = usual_columns(source)
        label, text = label or usual[0], text or usual[1]
    named = {"label": label, "inputs": text}
    columns = {key: value for key, value in named.items() if value is not None} or None
    if source.is_file():
        return client.upload_dataset(source, name, description=description, columns=columns)
    with tempfile.TemporaryDirectory(prefix="kshot-") as folder:
        zipped = _zip(source, Path(folder) / f"{name}.zip")
        return client.upload_dataset(zipped, name, description=description, columns=columns)


def _zip(folder: Path, file: Path) -> Path:
    """The pictures of class folders, stored: they are compressed already. Raises WrongUse without classes."""
    pictures = read_folder(folder)
    if pictures.labels is None:
        raise WrongUse(f"the pictures of {folder} are in no class folders: put those of each class in one of its own")
    with zipfile.ZipFile(file, "w") as archive:
        for name, label in zip(pictures.names, pictures.labels, strict=True):
            if label is not None:
                archive.write(folder / name, name)
    return file
