"""benchmarks/results/fuzz.json and .md: a part for the decoders and one for the routes, each written by its command."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import about

Rows = Sequence[Mapping[str, Any]]
_INTRODUCTION = """# Fuzzing

What every decoder does with damaged files, and every route with requests made from the OpenAPI document. The short
forms of both are tests (`tests/fuzzing`, `tests/flow/test_http_fuzz.py`). Anything but 0 under *unexpected*, *crashes*,
*failures* or *5xx* is a bug of ours.
"""
_DECODERS = """## Decoders

Each input is a valid file with a few edits (bits, bytes, lengths and counts that lie, numbers as text, tokens, cuts,
repeats, splices), now and then noise or a bomb; checksums and lengths are made true again in most of those that have
any. A child process decodes them, with at most 512 MB of private memory beyond what it begins with and 10 s of
processor time an input. *Taken*: it was still valid, and the value kept its bounds. *Refused*: one of our errors (400,
413, 415, 422). *Unexpected*: any other exception. *Crashes*: the child ended. *Slowest*: processor time of an input.
*Peak*: resident memory beyond what the child began with, over all its inputs.
"""
_ROUTES = """## Routes

schemathesis makes requests from the OpenAPI document, valid and invalid ones, in its phases examples, coverage, fuzzing
and stateful, with `--checks all`: no server error, no undocumented status, media type, header or body, nothing invalid
taken, nothing valid refused as unreadable, no way round the key, nothing left after it was deleted. *Cases*: requests
it judged; *answers*: how many of each status they got.
"""


def record(out: Path, part: str, rows: Rows, figures: Mapping[str, Any]) -> None:
    """Put one part into the page; the other stays as it is. ``figures``: of the whole part."""
    file = out / "fuzz.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    found[part] = {"about": about(), "figures": dict(figures), "rows": [dict(row) for row in rows]}
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=1) + "\n")
    texts = [(name, text) for name, text in (("decoders", _DECODERS), ("routes", _ROUTES)) if name in found]
    page = [_INTRODUCTION, *(line for name, text in texts for line in (text, _part(found[name])))]
    (out / "fuzz.md").write_text("\n".join(page))


def _part(found: Mapping[str, Any]) -> str:
    origin = {**found["about"], **found["figures"]}
    listed = [f"- {name}: {_cell(value)}" for name, value in origin.items()]
    rows = found["rows"]
    heads = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    return "\n".join([*listed, "", *heads, *("| " + " | ".join(map(_cell, row.values())) + " |" for row in rows), ""])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(part)}" for name, part in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)
