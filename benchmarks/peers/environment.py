"""Makes the peers' own environment from constraints.txt: `python -m benchmarks.peers.environment DIR`.

Never this project's: learn2learn 0.2.0 is old. Its C files were made for Python 3.9 and are made anew from its Cython
sources. Of what it and easyfsl ask for, torch is enough: the rest serves data sets, and stand_ins.py stands in for it.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

CONSTRAINTS = Path(__file__).with_name("constraints.txt")
_BUILD = ("cython", "numpy", "setuptools", "wheel")
_WHOLE = ("higher", "safetensors", "scikit-learn", "torch", "torchopt")
_ALONE = "easyfsl"  # without what it asks for


def main(folder: Path) -> None:
    venv.create(folder, with_pip=True)
    _pip(folder, "install", *_BUILD)
    _pip(folder, "install", *_WHOLE)
    _pip(folder, "install", "--no-deps", _ALONE)
    with tempfile.TemporaryDirectory() as sources:
        _pip(folder, "install", "--no-deps", "--no-build-isolation", str(_learn2learn(folder, Path(sources))))
    print(f"made; measure with: python -m benchmarks.peers --peers {folder / 'bin' / 'python'}")


def _learn2learn(folder: Path, sources: Path) -> Path:
    """The sources of learn2learn with C files that suit this Python."""
    fetch = ("download", "--dest", str(sources), "--no-deps", "--no-build-isolation", "--no-binary", ":all:")
    _pip(folder, *fetch, "learn2learn")
    (archive,) = sources.glob("learn2learn-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(sources, filter="data")
    unpacked = sources / archive.name.removesuffix(".tar.gz")
    data = unpacked / "learn2learn" / "data"
    for stale in data.glob("*.c"):
        stale.unlink()
    cython = [str(folder / "bin" / "cython"), "-3", *map(str, data.glob("*.pyx"))]
    subprocess.run(cython, check=True, capture_output=True)
    return unpacked


def _pip(folder: Path, *arguments: str) -> None:
    pip = [folder / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    pinned = os.environ | {"PIP_CONSTRAINT": str(CONSTRAINTS)}
    subprocess.run([*pip, *arguments], check=True, env=pinned)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
