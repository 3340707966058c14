"""Files inside installed wheels, found without importing a line of the wheel's code."""

from importlib.util import find_spec
from pathlib import Path

from kshot.contracts.errors import Unavailable


def wheel_file(package: str, *parts: str) -> Path:
    """The path of a data file in an installed package. Raises Unavailable where package or file is not there."""
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        file = Path(folder, *parts)
        if file.is_file():
            return file
    raise Unavailable(f"the package {package.replace('_', '-')} is not installed: install kshot[learn]")
