"""What is changed, and the tests that should notice."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """``tests``: those that notice most come first."""

    module: str
    tests: tuple[str, ...]


_STORAGE, _WORKERS = "tests/kshot/storage", "tests/workers"
_LIFE = (f"{_STORAGE}/test_claiming.py", f"{_STORAGE}/test_task_life.py")
_ENDS = (f"{_WORKERS}/test_settling.py", f"{_WORKERS}/test_endings.py")

TARGETS = (
    Target("kshot/storage/claiming.py", (*_LIFE, f"{_WORKERS}/test_last_chance.py")),
    Target("kshot/storage/completing.py", (f"{_STORAGE}/test_completing.py", f"{_STORAGE}/test_task_life.py")),
    Target("workers/leases.py", (f"{_WORKERS}/test_leases.py", *_ENDS)),
    Target("service/auth.py", ("tests/service/test_auth.py",)),
    Target("service/sessions.py", ("tests/service/test_auth.py",)),
    Target("kshot/storage/tasks.py", (f"{_STORAGE}/test_task_rows.py", f"{_STORAGE}/test_task_life.py", *_ENDS)),
    Target("kshot/storage/lookups.py", (f"{_STORAGE}/test_lookups.py", f"{_STORAGE}/test_sessions.py")),
    Target("kshot/storage/sessions.py", (f"{_STORAGE}/test_sessions.py",)),
    Target("kshot/storage/tenancy.py", (f"{_STORAGE}/test_tenancy.py",)),
    Target("kshot/storage/access.py", (f"{_STORAGE}/test_access.py", f"{_STORAGE}/test_access_and_reuse.py")),
    Target(
        "workers/settling.py", (*_ENDS, *(f"{_WORKERS}/test_{of}.py" for of in ("expiry", "following", "sweeping")))
    ),
    Target("workers/reaper.py", tuple(f"{_WORKERS}/test_{of}.py" for of in ("expiry", "following", "withdrawn_tasks"))),
)
