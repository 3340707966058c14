"""A training job while it runs: a bar with step, loss and the time left in a terminal, lines elsewhere."""

from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kshot.cli.describing import figure, shape
from kshot.cli.printing import say
from kshot.client import Job
from kshot.contracts.checkpoints import EvaluationRow
from kshot.contracts.job_bodies import TrainingEvent

_QUIET = ("queued", "saved", "total")


def watch(job: Job) -> Job:
    """The job once it has ended. An interrupt stops the watching; the job goes on, which is said."""
    try:
        (_bar if Console(stderr=True).is_terminal else _log)(job)
    except KeyboardInterrupt:
        say(f"no longer watching; the job goes on: kshot jobs events {job.id}, or kshot jobs cancel {job.id}")
        raise
    return job.refresh()


def event_line(event: TrainingEvent) -> str:
    """An event as a line."""
    return f"{event.at.astimezone():%Y-%m-%d %H:%M:%S}  {event.kind:<10}  {_told(event.kind, event.data)}".rstrip()


def time_left(finish: datetime | None) -> str | None:
    """``2 min 5 s`` until then; None where that is not known."""
    if finish is None:
        return None
    seconds = max(int((finish - datetime.now(UTC)).total_seconds()), 0)
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


def _log(job: Job) -> None:
    for event in job.events():
        if event.kind not in _QUIET:
            say(event_line(event))


def _bar(job: Job) -> None:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{job.name}: {job.status}", total=job.progress.total, loss="")
        for event in job.events():
            data = event.data
            if event.kind == "total":
                progress.update(task, total=data["total"])
            elif event.kind == "step":
                progress.update(task, completed=data["step"], loss=f"loss {data['loss']:.4g}")
            elif event.kind == "phase":
                progress.update(task, description=f"{job.name}: {data['phase']}")
            elif event.kind not in _QUIET:
                progress.console.print(event_line(event), markup=False, highlight=False)


def _told(kind: str, data: dict[str, Any]) -> str:
    match kind:
        case "step":
            pace = data.get("steps_per_s")
            return f"step {data['step']}  loss {data['loss']:.4g}" + ("" if pace is None else f"  {pace:.3g} steps/s")
        case "validation":
            return f"step {data['step']}  {data['metric']} {data['mean']:.4g} ± {data['interval']:.2g}"
        case "evaluated":
            row = EvaluationRow.model_validate(data)
            return f"{row.data}  {shape(row)}  {row.metric} {figure(row)}"
        case "phase":
            return str(data["phase"])
        case "failed":
            return str(data.get("message", ""))
        case _:
            return "  ".join(f"{name} {value}" for name, value in data.items())
