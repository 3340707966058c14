"""Support sets that grew: rows added to those of another task, which are not written again."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import Payload, SupportSet
from kshot.contracts.wire import Inputs


def grown(before: SupportSet, added: SupportSet) -> SupportSet:
    """The rows of one support, then those added. Classes and columns are those of ``added``, which begin with the other
    ones; a row from before a target was known has none of it."""
    targets = before.targets
    if added.task == "multitask":
        unknown = np.full((len(before), added.targets.shape[1] - targets.shape[1]), np.nan, dtype=np.float32)
        targets = np.concatenate([targets, unknown], axis=1)
    inputs: Inputs
    if isinstance(before.inputs, list):
        inputs = before.inputs + list(added.inputs)
    else:
        inputs = np.concatenate([before.inputs, np.asarray(added.inputs)])
    return replace(added, inputs=inputs, targets=np.concatenate([targets, added.targets]))


def with_rows_before(payload: Payload, before: SupportSet | None) -> Payload:
    """The payload with all its rows; ``before`` begins with those that it does not hold. Raises Invalid where these are
    too few."""
    n = payload.after
    if not n:
        return payload
    if payload.support is None or before is None or len(before) < n:
        raise Invalid("the payload lacks the rows that come before its own")
    first = replace(before, inputs=before.inputs[:n], targets=before.targets[:n])
    return replace(payload, support=grown(first, payload.support), after=0)


def joined(parts: Sequence[bytes]) -> Payload:
    """One payload of buffers as they lie in a line of tasks: the first one whole, in each other one the rows that were
    added. Options, classes and columns are those of the last. Raises as `Payload.decode`."""
    whole = Payload.decode(parts[0])
    for part in parts[1:]:
        whole = with_rows_before(Payload.decode(part), whole.support)
    return whole
