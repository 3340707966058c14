"""What lies where in a backup."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from kshot.contracts.errors import Invalid
from kshot.storage.objects import LocalObjects

FORMAT = 1


class Content(BaseModel):
    """A file, as it was written."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    bytes: int


class Listing(BaseModel):
    """``backup.json``, written last: a folder without it is no whole backup.

    ``revision``: of the tables. ``faults``: objects that rows need and that were not sound when the backup was made,
    each with what was wrong with it.
    """

    format: int = FORMAT
    made_at: datetime
    kshot: str
    revision: str
    database: Content
    objects: dict[str, Content]
    faults: dict[str, str] = {}

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return self.database.bytes + sum(each.bytes for each in self.objects.values())


@dataclass(frozen=True)
class BackupFolder:
    """A folder with a backup, or for one."""

    path: Path

    @property
    def dump(self) -> Path:
        """Of Postgres, in the custom format of pg_dump."""
        return self.path / "database.dump"

    @property
    def listing(self) -> Path:
        return self.path / "backup.json"

    @property
    def objects(self) -> LocalObjects:
        """The objects, under the keys they have in the store."""
        return LocalObjects(self.path / "objects")

    def prepare(self) -> None:
        """Raises Invalid where something lies there already."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(self.path.iterdir()):
            raise Invalid(f"{self.path} is not empty; name a folder for this backup alone")
        self.objects.check()

    def read(self) -> Listing:
        """Raises Invalid where there is no whole backup, or one of a later kshot."""
        try:
            found = Listing.model_validate_json(self.listing.read_bytes())
        except FileNotFoundError:
            raise Invalid(f"{self.path} holds no whole backup: it has no {self.listing.name}") from None
        except ValidationError as error:
            raise Invalid(f"{self.listing} cannot be read") from error
        if found.format != FORMAT:
            raise Invalid(f"{self.path} was made by kshot {found.kshot}; restore it with that version or a later one")
        return found


def content_of(file: Path) -> Content:
    """What a file holds."""
    with file.open("rb") as opened:
        return Content(sha256=hashlib.file_digest(opened, "sha256").hexdigest(), bytes=opened.tell())
