"""From what was computed to results: small states as bytes for their rows, large ones in the object store."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import structlog

from kshot.learners.state import dump_state
from kshot.storage.objects import ObjectStore, sha256, state_key
from kshot.storage.results import INLINE_BYTES, NewResult
from kshot.storage.tasks import Claim
from workers.leases import Leases
from workers.patience import patiently
from workers.work import Solved

_LARGE = 1 << 20

_log = structlog.get_logger()


async def store_states(
    objects: ObjectStore, leases: Leases, solved: Sequence[tuple[Claim, Solved]]
) -> list[NewResult | None]:
    """The result of each, its state stored where it is large; None where the lease was lost, or the store refuses.

    A large state lies under a key of its attempt's own. Postgres may forget a claim when it crashes, and give the
    attempt's number to another worker; so the lease is renewed first, which it cannot forget: two attempts never write
    one object.
    """
    n_bytes = sum(tensor.nbytes for _, one in solved if one.state for tensor in one.state.tensors.values())
    states = [one for _, one in solved]
    blobs = await asyncio.to_thread(_dump, states) if n_bytes > _LARGE else _dump(states)
    large = [claim for (claim, _), blob in zip(solved, blobs, strict=True) if len(blob) > INLINE_BYTES]
    ours = {claim.task_id for claim in await patiently(lambda: leases.renew(large))} if large else set()

    async def stored(claim: Claim, one: Solved, blob: bytes) -> NewResult | None:
        if len(blob) <= INLINE_BYTES:
            return _result(claim, one, blob, None)
        if claim.task_id in ours:
            return await _put(objects, claim, one, blob)
        _log.warning("result_dropped", task_id=claim.task_id, attempt=claim.attempt, request_id=claim.request_id)
        return None

    if not large:
        return [_result(claim, one, blob, None) for (claim, one), blob in zip(solved, blobs, strict=True)]
    return list(await asyncio.gather(*(stored(*pair, blob) for pair, blob in zip(solved, blobs, strict=True))))


def _dump(solved: Sequence[Solved]) -> list[bytes]:
    return [dump_state(one.state) for one in solved if one.state is not None]


async def _put(objects: ObjectStore, claim: Claim, solved: Solved, blob: bytes) -> NewResult | None:
    key = state_key(claim.task_id, claim.attempt)
    try:
        await asyncio.to_thread(objects.put, key, blob)
    except OSError as error:
        _log.error("object_store_refused", task_id=claim.task_id, error=error.strerror, request_id=claim.request_id)
        return None
    return _result(claim, solved, blob, key)


def _result(claim: Claim, solved: Solved, blob: bytes, key: str | None) -> NewResult:
    assert solved.state is not None
    payload, chosen = solved.work.payload, solved.work.chosen
    rest = chosen is not None or (payload.query is not None and claim.query is None)
    return NewResult(
        key,
        sha256(blob),
        solved.state.quality,
        solved.predictions,
        solved.timings,
        state=blob if key is None else None,
        payload=replace(payload, query=None).encode() if rest else None,
        qualities=solved.state.qualities,
        chosen=chosen,
    )
