"""Where the shared data sets lie, for tests that need real ones."""

import os
from pathlib import Path

import pytest

_FOLDER = Path(os.environ.get("KSHOT_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


def data_folder(*needed: str) -> Path:
    """The data folder; skips the test where one of the ``needed`` files below it is absent."""
    for file in needed or (".",):
        if not (_FOLDER / file).exists():
            pytest.skip(f"the shared data set {file} is not at {_FOLDER}")
    return _FOLDER
