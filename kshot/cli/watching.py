"""A training job while it runs: a bar with step, loss and the time left in a terminal, lines elsewhere."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kshot.cli.printing import say
from kshot.client import Job
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


def time_left(step: int, total: int | None, steps_per_s: float | None) -> str:
    """``2 min 5 s left``; empty while that cannot be said."""
    if total is None or not steps_per_s:
        return ""
    seconds = int(max(total - step, 0) / steps_per_s)
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min left"
    return f"{minutes} min {seconds % 60} s left" if minutes else f"{seconds} s left"


def _log(job: Job) -> None:
    for event in job.events():
        if event.kind not in _QUIET:
            say(event_line(event))


def _bar(job: Job) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[more]}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{job.name}: {job.status}", total=job.progress.total, more="")
        total = job.progress.total
        for event in job.events():
            data = event.data
            if event.kind == "total":
                total = data["total"]
                progress.update(task, total=total)
            elif event.kind == "step":
                more = f"loss {data['loss']:.4g}  {time_left(data['step'], total, data.get('steps_per_s'))}"
                progress.update(task, completed=data["step"], description=f"{job.name}: training", more=more)
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
            return f"{data.get('data', '')}  {data['metric']} {data['mean']:.4g} ± {data['interval']:.2g}"
        case "failed":
            return str(data.get("message", ""))
        case _:
            return "  ".join(f"{name} {value}" for name, value in data.items())
