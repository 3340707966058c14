"""Folders for what runs need while they run, and the end of those that dead trainers left."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_GATE = ".lock"


@contextmanager
def own_folder(root: Path, worker: str) -> Iterator[Path]:
    """``root / worker``, this process's alone until the context ends; then it is removed.

    Folders of trainers that are no more are removed first: a trainer holds a lock on a file beside its folder for as
    long as it lives.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder, lock = root / worker, root / f"{worker}.lock"
    with _locked(root / _GATE):  # nobody sweeps between the making of the file and its lock
        for other in root.glob("*.lock"):
            if other.name != _GATE:
                _sweep(other)
        held = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.unlink(missing_ok=True)
        os.close(held)


def _sweep(lock: Path) -> None:
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:  # its holder has just ended, and removed it
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        lock.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
