"""The codes that a Problem may carry, from the tree of errors."""

from kshot.contracts.errors import KshotError
from made.tables import table


def markdown() -> str:
    """A table of codes: status, the class that the SDK raises, and what it means."""
    found = sorted(KshotError.__subclasses__(), key=lambda error: (error.status, error.code))
    rows = [(f"`{e.code}`", str(e.status), f"`{e.__name__}`", _first_line(e)) for e in found if _is_of_the_service(e)]
    return table(("code", "status", "in Python", "meaning"), rows)


def _is_of_the_service(error: type[KshotError]) -> bool:
    """Not one that only a client raises."""
    return error.__module__ == KshotError.__module__


def _first_line(error: type[KshotError]) -> str:
    """The first paragraph of the docstring, less what it says of attributes."""
    return (error.__doc__ or "").split("``promotion``")[0].split("\n\n")[0]
