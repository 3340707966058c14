"""Promotions to production: each is compared in a process of its own, and decided where the alias moves."""

import asyncio
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import structlog
from pydantic import ValidationError

from kshot.contracts.errors import KshotError
from kshot.contracts.jobs import Exit
from kshot.contracts.registry import COMPARISON_FILE, FAILURE_FILE, GATE_FILE, Comparison, GateSpec
from kshot.contracts.tasks import Failure
from kshot.storage.promotions import (
    Promotion,
    claim_promotion,
    decide_promotion,
    fail_promotion,
    fail_spent_promotions,
    release_promotion,
    renew_promotion,
    retry_promotion,
)
from workers.children import run_child
from workers.data_folders import lay_checkpoint, lay_dataset
from workers.patience import is_away, patiently
from workers.trainer_stack import TrainerStack

_CHECKOUT = Path(__file__).parents[1]

_log = structlog.get_logger()


class Promoter:
    """The part of a trainer that compares challengers with incumbents, one at a time."""

    def __init__(self, stack: TrainerStack) -> None:
        self._stack = stack

    async def poll(self) -> None:
        """Claim the oldest open promotion, if there is one, compare and decide. Cancelled, it gives the claim back."""
        async with self._stack.database.begin() as connection:
            spent = await fail_spent_promotions(connection)
            claim = await claim_promotion(connection, self._stack.worker, self._stack.lease_s)
        for promotion in spent:
            _log.error("promotion_poisoned", promotion=promotion)
        if claim is None:
            return
        work = self._stack.work / f"{claim.id}-{claim.attempt}"
        try:
            await self._run(claim, work)
        except asyncio.CancelledError:
            await self._give_back(claim)
            raise
        finally:
            await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)

    async def _run(self, claim: Promotion, work: Path) -> None:
        _log.info("promotion_started", promotion=claim.id, attempt=claim.attempt)
        try:
            await self._lay_out(claim, work)
        except KshotError as error:
            return await self._fail(claim, Failure(code=error.code, message=error.message, param=error.param))
        except Exception as error:
            if not is_away(error):
                raise
            _log.warning("promotion_not_begun", promotion=claim.id, error=type(error).__name__)
            return await patiently(lambda: self._release(claim))
        code = await self._compare(claim, work)
        found = await asyncio.to_thread(_read, work)
        if code == Exit.FINISHED and isinstance(found, Comparison):
            await self._decide(claim, found)
        elif code == Exit.FAILED and isinstance(found, Failure):
            await self._fail(claim, found)
        else:
            log = await asyncio.to_thread(_tail, work / "log")
            _log.error("comparison_died", promotion=claim.id, attempt=claim.attempt, code=code, log=log)
            await patiently(lambda: self._retry(claim))

    async def _lay_out(self, claim: Promotion, work: Path) -> None:
        """Raises NotFound and Expired; what `is_away` knows where the database or the store cannot be read."""
        database, objects = self._stack.database, self._stack.objects
        spec = GateSpec(challenger=claim.challenger, incumbent=claim.incumbent, dataset=claim.dataset)
        await asyncio.to_thread(_write_spec, work, spec)
        await lay_dataset(database, objects, claim.dataset, work / "data")
        await lay_checkpoint(database, objects, claim.challenger, work / "checkpoints" / "challenger")
        await lay_checkpoint(database, objects, claim.incumbent, work / "checkpoints" / "incumbent")

    async def _compare(self, claim: Promotion, work: Path) -> int:
        """Run the comparison while the lease is ours; returns its exit code."""
        stop = asyncio.Event()
        renewing = asyncio.create_task(self._renew(claim, stop))
        settings = ["--threads", str(self._stack.threads), "--device", self._stack.device]
        command = [sys.executable, "-m", "kshot.training.gate", str(work), *settings]
        try:
            return await run_child(command, cwd=_CHECKOUT, log=work / "log", stop=stop, grace_s=1.0)
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing

    async def _renew(self, claim: Promotion, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(self._stack.lease_s / 3)
            try:
                async with self._stack.database.begin() as connection:
                    held = await renew_promotion(connection, claim, self._stack.lease_s)
            except Exception as error:
                if not is_away(error):
                    raise
                continue
            if not held:
                _log.warning("promotion_lost", promotion=claim.id, attempt=claim.attempt)
                stop.set()

    async def _decide(self, claim: Promotion, comparison: Comparison) -> None:
        async def write() -> str | None:
            async with self._stack.database.begin() as connection:
                return await decide_promotion(connection, claim, comparison)

        status = await patiently(write)
        _log.info("promotion_decided", promotion=claim.id, status=status or "lost", verdict=comparison.verdict)

    async def _fail(self, claim: Promotion, failure: Failure) -> None:
        async def write() -> bool:
            async with self._stack.database.begin() as connection:
                return await fail_promotion(connection, claim, failure)

        await patiently(write)
        _log.info("promotion_failed", promotion=claim.id, code=failure.code)

    async def _retry(self, claim: Promotion) -> None:
        async with self._stack.database.begin() as connection:
            await retry_promotion(connection, claim)

    async def _release(self, claim: Promotion) -> None:
        """Unspent."""
        async with self._stack.database.begin() as connection:
            await release_promotion(connection, claim)

    async def _give_back(self, claim: Promotion) -> None:
        try:
            await self._release(claim)
        except Exception as error:
            _log.warning("release_failed", promotion=claim.id, error=type(error).__name__)


def _write_spec(work: Path, spec: GateSpec) -> None:
    work.mkdir(parents=True, exist_ok=True)
    (work / GATE_FILE).write_text(spec.model_dump_json())


def _read(work: Path) -> Comparison | Failure | None:
    """What the comparison left; None where it left nothing."""
    try:
        if (work / COMPARISON_FILE).is_file():
            return Comparison.model_validate_json((work / COMPARISON_FILE).read_bytes())
        return Failure.model_validate_json((work / FAILURE_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def _tail(log: Path) -> str:
    try:
        return log.read_text(errors="replace")[-2000:]
    except OSError:
        return ""
