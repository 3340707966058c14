"""The environment variables that our settings read."""

from typing import get_args

from pydantic import AliasChoices, SecretStr
from pydantic_settings import BaseSettings


def names_of(settings: type[BaseSettings]) -> set[str]:
    """Every variable of a settings class, ``NAME_FILE`` of its secrets among them."""
    names = set()
    for field_name, field in settings.model_fields.items():
        alias = field.validation_alias
        given = alias.choices[0] if isinstance(alias, AliasChoices) else alias
        name = given if isinstance(given, str) else f"{settings.model_config['env_prefix']}{field_name}".upper()
        names.add(name)
        if SecretStr in (field.annotation, *get_args(field.annotation)):
            names.add(f"{name}_FILE")
    return names
