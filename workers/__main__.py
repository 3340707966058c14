"""``python -m workers adapt | trainer | publish FOLDER | backup TO | restore FROM | check [FROM]``: the only place
where parts are wired.

Commands import what they need: neither the trainer nor publishing known checkpoints must wait for torch.
"""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import SettingsError

from kshot.contracts.errors import KshotError
from kshot.contracts.ids import new_id
from kshot.logs import log_unhandled, set_up_logs
from kshot.storage.database import open_database
from kshot.tracing import tracing
from workers.alive import touched
from workers.settings import StoreSettings, TrainerSettings, WorkerSettings

_STATEMENT_TIMEOUT_S = 10
_STATE_SHARE = 16

S = TypeVar("S", bound=StoreSettings)


def main() -> None:
    """Run one command; a wrong setting or a wrong folder ends it with a line that names it, and code 1."""
    given = parser().parse_args()
    try:
        if given.command == "adapt":
            _adapt(_logging(WorkerSettings()))
        elif given.command == "trainer":
            asyncio.run(_train(_logging(TrainerSettings())))
        elif given.command == "publish":
            asyncio.run(_publish(_logging(StoreSettings()), given.folder))
        else:
            from workers.backups.commands import run

            sys.exit(0 if asyncio.run(run(given.command, given.folder, _logging(StoreSettings()))) else 1)
    except ValidationError as error:
        faults = [f"setting {fault['loc'][0]}: {fault['msg']}" for fault in error.errors(include_input=False)]
        sys.exit("error: " + "; ".join(faults))
    except (KshotError, RuntimeError, SettingsError) as error:
        sys.exit(f"error: {error}")


def _logging(settings: S) -> S:
    set_up_logs(sys.stdout, settings.log_level)
    return settings


def parser() -> argparse.ArgumentParser:
    """Of the commands and their words."""
    made = argparse.ArgumentParser(prog="python -m workers")
    commands = made.add_subparsers(dest="command", required=True)
    commands.add_parser("adapt", help="run the adaptation worker")
    commands.add_parser("trainer", help="run the trainer, which works meta-training jobs off")
    publish = commands.add_parser("publish", help="register checkpoint folders and their production aliases")
    publish.add_argument("folder", type=Path)
    backup = commands.add_parser("backup", help="back up the database and the objects it needs into an empty folder")
    restore = commands.add_parser("restore", help="restore a backup into an empty database and the object store")
    check = commands.add_parser("check", help="read a backup through, or everything that the database needs")
    for command, many in ((backup, None), (restore, None), (check, "?")):
        command.add_argument("folder", type=Path, nargs=many)
    return made


def _adapt(settings: WorkerSettings) -> None:
    import torch
    import uvloop

    from kshot.allocator import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(settings.threads)
    uvloop.run(_work(settings))


async def _work(settings: WorkerSettings) -> None:
    from kshot.device import choose_device
    from kshot.queue.work import WorkQueue
    from workers.adaptation import AdaptationWorker
    from workers.batching import Limits
    from workers.memory import machine_bytes
    from workers.stack import Stack
    from workers.sweeping import Keep

    stop = _stop_signal()
    worker = new_id("wrk")
    stack = Stack(
        worker=worker,
        device=choose_device(settings.device),
        lease_s=settings.lease_s,
        limits=Limits(settings.batch_tasks, settings.batch_queries),
        database=open_database(settings.database, statement_timeout_s=_STATEMENT_TIMEOUT_S),
        queue=WorkQueue(settings.redis_url.get_secret_value(), worker),
        objects=settings.open_objects(),
        state_bytes=settings.state_bytes or machine_bytes() // _STATE_SHARE,
        keep=Keep(settings.prediction_days, settings.checkpoint_days),
    )
    try:
        async with touched(settings.alive_file):
            with tracing("kshot-worker"):
                await AdaptationWorker(stack).run(stop)
    finally:
        await stack.queue.close()
        await stack.database.dispose()


async def _publish(settings: StoreSettings, root: Path) -> None:
    from workers.publishing import checkpoint_folders, publish

    database, objects = open_database(settings.database), settings.open_objects()
    try:
        for folder in checkpoint_folders(root):
            checkpoint = await publish(database, objects, folder)
            print(f"{folder.name} {checkpoint}", flush=True)
    finally:
        await database.dispose()


async def _train(settings: TrainerSettings) -> None:
    from workers.trainer import Trainer
    from workers.trainer_stack import TrainerStack
    from workers.work_folders import own_folder

    stop = _stop_signal()
    worker = new_id("wrk")
    database = open_database(settings.database, statement_timeout_s=_STATEMENT_TIMEOUT_S)
    with own_folder(settings.work_folder, worker) as work:
        stack = TrainerStack(
            worker=worker,
            database=database,
            objects=settings.open_objects(),
            work=work,
            lease_s=settings.lease_s,
            threads=settings.trainer_threads or os.cpu_count() or 1,
            device=settings.device,
        )
        try:
            async with touched(settings.alive_file):
                with tracing("kshot-trainer"):
                    await Trainer(stack).run(stop)
        finally:
            await database.dispose()


def _stop_signal() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; what nobody catches goes to the log in our form."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.set_exception_handler(log_unhandled)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


if __name__ == "__main__":
    main()
