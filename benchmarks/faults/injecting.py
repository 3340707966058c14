"""Faults put into practice: processes killed, stopped, continued, started again."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import asyncpg
import psutil

from benchmarks.faults.ledger import Ended, Happened, Ledger
from benchmarks.faults.schedule import Fault
from tests.flow.chaos_stack import Part, WholeService

_PATIENCE_S = 180.0
_DRAIN_S = 60.0
_LOOK_S = 0.2
_BUSY_S = 3.0
_HOLDS = "SELECT EXISTS (SELECT 1 FROM tasks WHERE worker = $1 AND status = 'running')"
_AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError)
Act = Callable[[Fault], Coroutine[Any, Any, str]]


class Injector:
    """Carries out a schedule. Faults overlap, but none hits what another one still holds."""

    def __init__(self, service: WholeService, ledger: Ledger) -> None:
        self._service, self._ledger = service, ledger
        self._held = {name: asyncio.Lock() for name in (*service.parts, "valkey", "postgres")}
        self._asking = asyncio.Lock()
        self._acts: dict[str, Act] = {
            "worker killed": lambda fault: self._kill(self._worker(fault), fault),
            "worker stopped past its lease": lambda fault: self._stop(self._worker(fault), fault),
            "worker told to end": lambda fault: self._end(self._worker(fault), fault),
            "trainer killed": lambda fault: self._kill(service.parts["trainer"], fault),
            "trainer stopped past its lease": lambda fault: self._stop(service.parts["trainer"], fault),
            "training killed": self._kill_training,
            "API killed": lambda fault: self._kill(service.parts["api"], fault),
            "Valkey killed": self._kill_valkey,
            "Valkey stopped": self._stop_valkey,
            "Valkey down, its data deleted": self._wipe_valkey,
            "Postgres killed": self._kill_postgres,
            "Postgres's process of a connection killed": self._kill_backend,
            "Postgres down": self._stop_postgres,
        }

    async def carry_out(self, faults: Sequence[Fault]) -> None:
        """All of them, each at its time, until the last one is over."""
        start = self._ledger.now()
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await asyncio.sleep(max(0.0, start + fault.at - self._ledger.now()))
                group.create_task(self._acts[fault.kind](fault))

    async def keep(self) -> None:
        """Start again what ended by itself, as a supervisor does, until cancelled. An API that starts while Postgres is
        away ends at once, and says so; for everything else there is no excuse."""
        while True:
            await asyncio.sleep(_LOOK_S)
            for name, part in self._service.parts.items():
                if not part.runs and not self._held[name].locked():
                    words = part.last_words().strip().splitlines()[-1:]
                    self._ledger.note(Ended(name, self._ledger.now(), "".join(words)))
                    part.start()

    def _worker(self, fault: Fault) -> Part:
        workers = self._service.workers
        return workers[int(fault.pick * len(workers))]

    async def _until_busy(self, part: Part) -> None:
        """For a moment: what is hit in the middle of its work has more to lose."""
        worker, deadline = await asyncio.to_thread(part.worker), self._ledger.now() + _BUSY_S
        while worker is not None and self._ledger.now() < deadline:
            try:
                connection = await asyncpg.connect(self._service.database_url, timeout=5)
                try:
                    while self._ledger.now() < deadline:
                        if await connection.fetchval(_HOLDS, worker, timeout=5):
                            return
                        await asyncio.sleep(0.01)
                finally:
                    connection.terminate()
            except _AWAY:
                await asyncio.sleep(0.1)

    def _note(self, fault: Fault, target: str, begun: float) -> str:
        self._ledger.note(Happened(fault.kind, target, begun, self._ledger.now()))
        return target

    async def _kill(self, part: Part, fault: Fault) -> str:
        async with self._held[part.name]:
            await self._until_busy(part)
            begun = self._ledger.now()
            part.kill()
            await asyncio.sleep(fault.hold)
            part.start()
            return self._note(fault, part.name, begun)

    async def _stop(self, part: Part, fault: Fault) -> str:
        async with self._held[part.name]:
            await self._until_busy(part)
            begun = self._ledger.now()
            part.signal(signal.SIGSTOP)
            await asyncio.sleep(fault.hold)
            part.signal(signal.SIGCONT)
            return self._note(fault, part.name, begun)

    async def _end(self, part: Part, fault: Fault) -> str:
        async with self._held[part.name]:
            await self._until_busy(part)
            begun = self._ledger.now()
            await asyncio.to_thread(part.end, _DRAIN_S)
            await asyncio.sleep(fault.hold)
            part.start()
            return self._note(fault, part.name, begun)

    async def _kill_training(self, fault: Fault) -> str:
        begun = self._ledger.now()
        found = self._service.training()
        if not found:
            return "nothing"
        victim = found[int(fault.pick * len(found))]
        _kill(victim.pid)
        return self._note(fault, "trainer", begun)

    async def _pid(self, name: str) -> int:
        async with self._asking:
            return await asyncio.to_thread(self._service.servers.pid, name)  # type: ignore[arg-type]

    async def _kill_valkey(self, fault: Fault) -> str:
        async with self._held["valkey"]:
            begun = self._ledger.now()
            _kill(await self._pid("valkey"))
            return self._note(fault, "valkey", begun)

    async def _stop_valkey(self, fault: Fault) -> str:
        async with self._held["valkey"]:
            begun, pid = self._ledger.now(), await self._pid("valkey")
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(fault.hold)
            os.kill(pid, signal.SIGCONT)
            return self._note(fault, "valkey", begun)

    async def _wipe_valkey(self, fault: Fault) -> str:
        """Killed first: nothing of what it holds may reach the disk."""
        async with self._held["valkey"]:
            begun, servers = self._ledger.now(), self._service.servers
            _kill(await self._pid("valkey"))
            async with self._asking:
                await asyncio.to_thread(servers.stop, "valkey")
            servers.delete_data("valkey")
            await asyncio.sleep(fault.hold)
            async with self._held["postgres"], self._asking:  # the supervisor starts one server at a time
                await asyncio.to_thread(servers.start, "valkey")
            return self._note(fault, "valkey", begun)

    async def _kill_postgres(self, fault: Fault) -> str:
        async with self._held["postgres"]:
            begun = self._ledger.now()
            _kill(await self._pid("postgres"))
            target = self._note(fault, "postgres", begun)
            await self._until_postgres_answers()
            return target

    async def _kill_backend(self, fault: Fault) -> str:
        """All others end with it, and Postgres recovers as after a crash."""
        async with self._held["postgres"]:
            found: list[psutil.Process] = []
            while not found:  # workers come back to a Postgres that was restarted within seconds
                await asyncio.sleep(0.05)
                async with self._asking:
                    found = await asyncio.to_thread(self._service.backends)
            begun = self._ledger.now()
            _kill(found[int(fault.pick * len(found))].pid)
            target = self._note(fault, "postgres", begun)
            await self._until_postgres_answers()
            return target

    async def _stop_postgres(self, fault: Fault) -> str:
        async with self._held["postgres"]:
            begun, servers = self._ledger.now(), self._service.servers
            async with self._asking:
                await asyncio.to_thread(servers.stop, "postgres")
            await asyncio.sleep(fault.hold)
            async with self._asking:
                await asyncio.to_thread(servers.start, "postgres")
            return self._note(fault, "postgres", begun)

    async def _until_postgres_answers(self) -> None:
        deadline = self._ledger.now() + _PATIENCE_S
        await asyncio.sleep(0.3)  # it has to notice first
        while True:
            try:
                connection = await asyncpg.connect(self._service.database_url, timeout=5)
                await connection.close()
                return
            except _AWAY:
                if self._ledger.now() > deadline:
                    raise
                await asyncio.sleep(0.1)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it is being started again just now
