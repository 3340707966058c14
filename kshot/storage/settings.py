"""Settings of every process that opens the database; and secrets, which may lie in files."""

import os
from pathlib import Path
from typing import Any, get_args

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from kshot.logs import Level
from kshot.storage.database import driver_url
from kshot.storage.objects import CACHE_BYTES, ObjectStore, open_objects, read_address


class SecretFiles(PydanticBaseSettingsSource):
    """``NAME_FILE`` beside every secret ``NAME``: the path of a file that holds it, as Docker and Kubernetes mount
    secrets. Raises SettingsError where both are set, and where the file cannot be read or holds nothing."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        alias = field.validation_alias
        name = str(alias.choices[0]) if isinstance(alias, AliasChoices) else alias
        variable = name if isinstance(name, str) else f"{self.config['env_prefix']}{field_name}".upper()
        is_secret = SecretStr in (field.annotation, *get_args(field.annotation))
        return secret_in_file(variable) if is_secret else None, str(name or field_name), False

    def __call__(self) -> dict[str, Any]:
        found = [self.get_field_value(field, name) for name, field in self.settings_cls.model_fields.items()]
        return {key: value for value, key, _ in found if value is not None}


class DatabaseSettings(BaseSettings):
    """Where Postgres is. All settings come from the environment, and every secret ``NAME`` from the file that
    ``NAME_FILE`` names, too."""

    model_config = SettingsConfigDict(env_prefix="KSHOT_", extra="ignore", frozen=True, populate_by_name=True)

    database_url: SecretStr = Field(
        validation_alias=AliasChoices("DATABASE_URL", "database_url"), description="postgresql://USER@HOST/DATABASE"
    )
    database_password: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("POSTGRES_PASSWORD", "database_password"),
        description="The password, where DATABASE_URL holds none",
    )
    log_level: Level = Field(
        default="info",
        description="The least that is logged; `debug` also lets libraries speak, without what they were given",
    )

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, url: SecretStr) -> SecretStr:
        try:
            driver_url(url.get_secret_value())
        except ArgumentError:
            raise ValueError("DATABASE_URL is no URL; write postgresql://USER@HOST/DATABASE") from None
        return url

    @property
    def database(self) -> str:
        """The URL with its password. Never to be logged."""
        given = self.database_url.get_secret_value()
        if self.database_password is None or make_url(given).password is not None:
            return given
        password = self.database_password.get_secret_value()
        return make_url(given).set(password=password).render_as_string(hide_password=False)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, SecretFiles(settings_cls)


class ObjectSettings(DatabaseSettings):
    """Where Postgres is, and where the object store."""

    objects: str = Field(
        default=str(Path.home() / ".kshot" / "objects"), description="The object store: a folder, or s3://bucket/prefix"
    )
    cache: Path = Field(
        default=Path.home() / ".kshot" / "cache",
        description="Where objects lie in a bucket: the folder for what is being uploaded, and for copies",
    )
    cache_bytes: int = Field(default=CACHE_BYTES, ge=1, description="Copies in that folder, besides those in use")

    @field_validator("objects")
    @classmethod
    def _is_a_place(cls, objects: str) -> str:
        read_address(objects)
        return objects

    def open_objects(self) -> ObjectStore:
        """Raises OSError where a folder cannot be used; RuntimeError where a library is missing."""
        return open_objects(self.objects, self.cache, self.cache_bytes)

    @property
    def beside_objects(self) -> Path:
        """A folder on the disk of the store's files, or of their copies."""
        place = read_address(self.objects)
        return (place if isinstance(place, Path) else self.cache).parent


def secret_in_file(variable: str) -> str | None:
    """The content of the file that ``{variable}_FILE`` names, without the line end; None where that is not set."""
    pointer = f"{variable}_FILE"
    path = os.environ.get(pointer)
    if not path:
        return None
    if os.environ.get(variable):
        raise SettingsError(f"{variable} and {pointer} are both set; leave one of them out")
    try:
        secret = Path(path).read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text"
        raise SettingsError(f"{pointer}: cannot read {path} ({reason})") from None
    if not secret:
        raise SettingsError(f"{pointer}: {path} is empty; write the secret into it")
    return secret
