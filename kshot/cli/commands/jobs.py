"""``kshot jobs``: meta-training under way, and what became of it."""

import json
import sys
from typing import Annotated

import typer

from kshot.cli.commands.evaluation import print_evaluation
from kshot.cli.commands.options import JobId
from kshot.cli.connection import connect
from kshot.cli.printing import AsJson, data, facts, plain, say, show_json, table
from kshot.cli.watching import event_line, time_left
from kshot.client import Job

jobs = typer.Typer(
    no_args_is_help=True, help="Training jobs (administrators): list, show, events, cancel, pause, resume."
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(jobs, name="jobs")


@jobs.command("list", epilog="Example: kshot jobs list")
def list_all(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List jobs, newest first."""
    found = list(connect(ctx).jobs())
    if as_json:
        show_json(found)
        return
    rows = ([one.id, one.name, one.status, _steps(one), one.created_at, one.checkpoint] for one in found)
    table(["id", "name", "status", "step", "created", "checkpoint"], rows, "no jobs yet: kshot train FILE")


@jobs.command(epilog="Example: kshot jobs show job_01ABC")
def show(ctx: typer.Context, job: JobId, as_json: AsJson = False) -> None:
    """Show a job: how far it is, and at the end its checkpoint and evaluation, or why there are none."""
    print_job(connect(ctx).job(job), as_json)


@jobs.command(epilog="Example: kshot jobs events job_01ABC --follow")
def events(
    ctx: typer.Context,
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what happened to a job, oldest first: losses, validations, what was saved. --json: a JSON object a line."""
    found = connect(ctx).job(job)
    for event in found.events() if follow else found.past_events():
        if as_json:
            sys.stdout.write(json.dumps(plain(event)) + "\n")
            sys.stdout.flush()
        else:
            data(event_line(event))


@jobs.command(epilog="Example: kshot jobs cancel job_01ABC")
def cancel(ctx: typer.Context, job: JobId, as_json: AsJson = False) -> None:
    """End a job within 30 seconds, for good; what it has saved is deleted."""
    _steered(connect(ctx).job(job).cancel(), as_json)


@jobs.command(epilog="Example: kshot jobs pause job_01ABC")
def pause(ctx: typer.Context, job: JobId, as_json: AsJson = False) -> None:
    """Let a job save where it is, and wait until it is resumed."""
    _steered(connect(ctx).job(job).pause(), as_json)


@jobs.command(epilog="Example: kshot jobs resume job_01ABC")
def resume(ctx: typer.Context, job: JobId, as_json: AsJson = False) -> None:
    """Let a paused job go on where it was."""
    _steered(connect(ctx).job(job).resume(), as_json)


def print_job(job: Job, as_json: bool) -> None:
    """A job on stdout."""
    if as_json:
        show_json(job)
        return
    waits = "no trainer is alive; it waits for one" if job.queue_state == "no_worker" else None
    facts(
        {
            "id": job.id,
            "name": job.name,
            "status": job.status,
            "waits": waits,
            "phase": job.phase if job.status == "running" else None,
            "step": _steps(job),
            "left": time_left(job.estimated_finish),
            "data set": job.dataset,
            "attempt": job.attempt,
            "error": None if job.error is None else job.error.message,
            "checkpoint": job.checkpoint,
            "created": job.created_at,
            "finished": job.finished_at,
        }
    )
    print_evaluation(job.evaluation)


def _steered(job: Job, as_json: bool) -> None:
    if as_json:
        show_json(job)
    else:
        say(f"{job.id} is {job.status}")


def _steps(job: Job) -> str:
    total = "" if job.progress.total is None else f" of {job.progress.total}"
    return f"{job.progress.step}{total}"
