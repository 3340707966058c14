"""Strings -> canonical texts."""

import re
from collections.abc import Sequence

from kshot.contracts.checkpoints import TextInput
from kshot.contracts.errors import Invalid

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""NUL and lone surrogates: neither Postgres nor UTF-8 can hold them."""


def check_texts(values: Sequence[object], spec: TextInput, param: str) -> list[str]:
    """The values as texts. Raises Invalid for anything but a non-empty, storable string within the limit."""
    return [_text(value, spec, f"{param}[{i}]") for i, value in enumerate(values)]


def _text(value: object, spec: TextInput, param: str) -> str:
    expected = f"expected a non-empty string of at most {spec.max_chars} characters"
    if not isinstance(value, str):
        raise Invalid(expected, param=param)
    if not value.strip():
        raise Invalid(f"empty; {expected}", param=param)
    if len(value) > spec.max_chars:
        raise Invalid(f"{len(value)} characters; {expected}", param=param)
    if _UNSTORABLE.search(value):
        raise Invalid("NUL characters and lone surrogates are not allowed in texts", param=param)
    return value
