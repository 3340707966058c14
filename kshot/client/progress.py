"""Bars for long waits, on the terminal that errors go to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Show = Callable[..., None]
"""Sets what is known by now: ``completed``, ``total``, ``description``."""


@contextmanager
def waiting(shown: bool, description: str, total: float | None = None) -> Iterator[Show]:
    """A bar with the time that has passed, gone at the end; without ``total`` it only moves."""
    if not shown:
        yield lambda **_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total)

        def show(**known: float | str | None) -> None:
            progress.update(task, **known)  # type: ignore[arg-type]

        yield show
