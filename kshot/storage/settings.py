"""Settings of every process that opens the database; and secrets, which may lie in files."""

import os
from pathlib import Path
from typing import Any, get_args

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from kshot.storage.database import driver_url


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
