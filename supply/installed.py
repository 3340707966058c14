"""The packages that an installation of kshot brings, read from this environment: no tool of development among them."""

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from supply import INSTALLED


def packages(root: str = INSTALLED) -> dict[str, metadata.Distribution]:
    """Name -> package, for all that ``root`` ("name[extra,...]") needs on this machine, ``root`` itself left out."""
    start = Requirement(root)
    extras: dict[str, set[str]] = {}
    _follow(start, extras)
    return {name: metadata.distribution(name) for name in sorted(extras) if name != canonicalize_name(start.name)}


def _follow(asked: Requirement, extras: dict[str, set[str]]) -> None:
    """Adds what ``asked`` needs. A package met again is gone through again only for extras it had not."""
    name = canonicalize_name(asked.name)
    known = extras.setdefault(name, set())
    new = {"", *asked.extras} - known
    known |= new
    for line in (metadata.distribution(name).requires or []) if new else []:
        needed = Requirement(line)
        if applies(needed, new):
            _follow(needed, extras)


def applies(needed: Requirement, extras: Iterable[str]) -> bool:
    """Whether this machine and one of these extras ("" for none) ask for it."""
    return needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras)
