"""Data sets to meta-train on, for administrators."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kshot.client.endpoint import Calls, endpoint, lists, read
from kshot.client.models import given
from kshot.client.pages import pages
from kshot.client.progress import waiting
from kshot.client.requests import Request, Upload, at, json_body, to_json
from kshot.client.steps import Script
from kshot.contracts.dataset_bodies import Dataset, DatasetSamples, FileFormat
from kshot.contracts.errors import Invalid

_CHECK_S = 1200.0
"""The service reads all of a file before it answers."""


class DatasetCalls(Calls):
    """Of both clients."""

    @endpoint
    def upload_dataset(
        self,
        file: str | Path | bytes,
        name: str,
        *,
        description: str = "",
        format: FileFormat | None = None,
        columns: Mapping[str, Any] | None = None,
        split: Mapping[str, Any] | None = None,
        splits: Mapping[str, Sequence[str]] | None = None,
        filename: str | None = None,
    ) -> Script[Dataset]:
        """Upload a data set, which the service reads through before it answers.

        Args:
            file: path (or the bytes) of a zip of class folders of PNG or JPEG pictures, CSV or JSON lines of texts with
                labels, npz or CSV of vectors with labels, or CSV of a table with several targets.
            name: lower-case letters, digits and hyphens.
            format: ``image_zip``, ``text_csv``, ``text_jsonl``, ``vector_npz``, ``vector_csv``, ``table_csv``; by
                default guessed.
            columns: which hold what: ``inputs``, ``label``, ``targets`` ({name: kind}), ``group``.
            split: drawn by a seed: ``{"shares": {"train": 0.64, "valid": 0.16, "test": 0.2}, "seed": 0}``.
            splits: the classes of each part, instead: ``{"train": [...], "valid": [...], "test": [...]}``.
            filename: what the file is called; of bytes it helps to guess the format.

        Raises Invalid, TooLarge (``param`` names the part at fault), Conflict where the name is taken.
        """
        settings = {"name": name, **given(description=description or None, format=format, columns=columns, split=split)}
        fields = {"request": to_json(settings), **({} if splits is None else {"splits": to_json(splits)})}
        source = file if isinstance(file, bytes) else _existing(Path(file))
        called = filename or (name if isinstance(source, bytes) else source.name)
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        with waiting(self._driver.progress, f"uploading {called}", total=size) as show:
            body = Upload(fields, source, called, lambda done: show(completed=done))
            request = Request("POST", "/v1/datasets", body=body).patient(_CHECK_S).created_once()
            response = yield from self._send(request)
        return read(Dataset, response.content)

    @endpoint
    def built_in_dataset(self, /, name: str, source: str, **settings: Any) -> Script[Dataset]:
        """Name a data set that needs no file.

        ``source``: ``sinusoid`` (tasks are drawn), ``omniglot`` (from the operator's data folder) or
        ``recorded-tasks`` (with ``checkpoint``, and perhaps ``task``, ``tenants``, ``split``, ``description``).
        Raises Invalid, Conflict where the name is taken.
        """
        body = json_body({"name": name, "source": source, **given(**settings)})
        response = yield from self._send(Request("POST", "/v1/datasets", body=body).patient(_CHECK_S).created_once())
        return read(Dataset, response.content)

    @endpoint
    def dataset(self, id: str) -> Script[Dataset]:
        """A data set by id or name, with the classes of each part and who uses it. Raises NotFound."""
        response = yield from self._send(Request("GET", at("/v1/datasets", id)))
        return read(Dataset, response.content)

    @lists(Dataset, Dataset)
    def datasets(self) -> Script[None]:
        """All data sets, newest first, without the names of their classes."""
        yield from pages(self, "/v1/datasets")

    @endpoint
    def dataset_samples(self, id: str, *, limit: int = 24) -> Script[DatasetSamples]:
        """A few examples of a data set, by id or name: texts, thumbnails as data URLs, first numbers of vectors.

        ``limit``: at most so many, up to 100.
        """
        response = yield from self._send(Request("GET", at("/v1/datasets", id, "samples"), params={"limit": limit}))
        return read(DatasetSamples, response.content)

    @endpoint
    def delete_dataset(self, id: str) -> Script[None]:
        """Delete a data set, by id or name. Raises Conflict while an open job or promotion needs it."""
        yield from self._send(Request("DELETE", at("/v1/datasets", id)))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise Invalid("there is no such file" if not path.is_dir() else "this is a folder; zip it", param="file")
    return path
