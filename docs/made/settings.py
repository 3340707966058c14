"""The settings reference, from the classes that read the environment."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import annotated_types
from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from made.tables import table
from service.settings import Settings
from workers.settings import TrainerSettings, WorkerSettings

PROCESSES: tuple[tuple[str, type[BaseSettings]], ...] = (
    ("API: `python -m service serve`", Settings),
    ("Adaptation worker: `python -m workers adapt`", WorkerSettings),
    ("Trainer: `python -m workers trainer`", TrainerSettings),
)
_MIB = 1 << 20
_BOUNDS = {annotated_types.Ge: "≥", annotated_types.Gt: ">", annotated_types.Le: "≤", annotated_types.Lt: "<"}
_ENTRY = re.compile(r"^ *((?:``\w+``(?:, )?)+): (.+?)(?=^ *``|\Z)", re.MULTILINE | re.DOTALL)


def markdown() -> str:
    """A table for each process."""
    return "\n\n".join(f"## {title}\n\n{table(_HEAD, _rows(settings))}" for title, settings in PROCESSES)


_HEAD = ("variable", "default", "bounds", "meaning")


def variables(settings: type[BaseSettings]) -> dict[str, tuple[FieldInfo, str]]:
    """Every variable that a class reads: its field, and what it means (empty where nobody said)."""
    said = _in_docstrings(settings)
    prefix = settings.model_config.get("env_prefix", "")
    own = settings.model_fields.items()
    return {_variable(name, field, prefix): (field, field.description or said.get(name, "")) for name, field in own}


def _rows(settings: type[BaseSettings]) -> Iterator[tuple[str, str, str, str]]:
    for name, (field, meaning) in variables(settings).items():
        yield f"`{name}`", _default(field), ", ".join(_bounds(field)), meaning


def _variable(name: str, field: FieldInfo, prefix: str) -> str:
    alias = field.validation_alias
    first = alias.choices[0] if isinstance(alias, AliasChoices) else alias
    return str(first or prefix + name).upper()


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "none"
    shown = f"`{str(value).replace(str(Path.home()), '~')}`"
    return f"{shown} ({value >> 20:,} MiB)" if isinstance(value, int) and value >= _MIB else shown


def _bounds(field: FieldInfo) -> Iterator[str]:
    for limit in field.metadata:
        if sign := _BOUNDS.get(type(limit)):
            yield f"{sign} {getattr(limit, type(limit).__name__.lower())}"


def _in_docstrings(settings: type[BaseSettings]) -> dict[str, str]:
    """What docstrings say of fields, as "``name``: what it is"; a class's own word goes before its parents'."""
    said: dict[str, str] = {}
    for own in reversed(settings.__mro__):
        for names, meaning in _ENTRY.findall(own.__dict__.get("__doc__") or ""):
            said.update(dict.fromkeys(re.findall(r"\w+", names), meaning))
    return said
