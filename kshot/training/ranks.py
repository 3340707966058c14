"""Run a module in several processes of this host, which share each meta-batch: torchrun, but heard by this host alone.

``python -m kshot.training.ranks 2 kshot.training RECIPE --data DIR --out DIR``

What ``torchrun --standalone`` meets at listens on every interface and unpickles what it is sent. Here that is a store
on loopback, and nothing is unpickled; the rest is torch's elastic agent. A process that dies is started again with all
others, and they go on from the last save; after three such deaths this one ends too. The exit code is that of the first
process.
"""

import argparse
import os
import socket
import sys
import tempfile
from pathlib import Path

from torch._C._distributed_c10d import TCPStore
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)
from torch.distributed.launcher.api import LaunchConfig, launch_agent

from kshot.training.world import OUTCOME

_RESTARTS = 3
"""Then whoever started this hears of it: the trainer counts deaths, and these would multiply its count."""

_LOOPBACK = "127.0.0.1"


class _Here(RendezvousHandler):
    """The meeting of a single agent, whose store is also that of its processes."""

    def __init__(self, parameters: RendezvousParameters) -> None:
        self._run = parameters.run_id

    @property
    def use_agent_store(self) -> bool:
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """A new store each time: the addresses of processes that have died must not be found in it."""
        heard = socket.create_server((_LOOPBACK, 0))
        port = heard.getsockname()[1]
        store = TCPStore(_LOOPBACK, port, is_master=True, master_listen_fd=heard.detach())
        return RendezvousInfo(store, 0, 1, RendezvousStoreInfo(_LOOPBACK, port))

    def get_backend(self) -> str:
        return "here"

    def get_run_id(self) -> str:
        return self._run

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None:
        """There is nobody else to tell."""

    def num_nodes_waiting(self) -> int:
        return 0

    def shutdown(self) -> bool:
        return True


def run(processes: int, module: str, arguments: list[str]) -> int:
    """The exit code of the module's first process, once all have ended; 1 where they died too often."""
    rendezvous_handler_registry.register("here", _Here)
    with tempfile.TemporaryDirectory() as folder:
        outcome = Path(folder) / "outcome"
        os.environ[OUTCOME] = str(outcome)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="here",
            rdzv_backend="here",
            max_restarts=_RESTARTS,
            local_addr=_LOOPBACK,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        code = 0
        try:
            launch_agent(config, sys.executable, ["-u", "-m", module, *arguments])
        except (ChildFailedError, SignalException) as error:
            sys.stderr.write(f"the processes of {module} were ended: {type(error).__name__}\n")
            code = 1
        return int(outcome.read_text()) if outcome.is_file() else code


def main() -> None:
    """See the top of this file."""
    parser = argparse.ArgumentParser(prog="python -m kshot.training.ranks")
    parser.add_argument("processes", type=int)
    parser.add_argument("module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    sys.exit(run(given.processes, given.module, given.arguments))


if __name__ == "__main__":
    main()
