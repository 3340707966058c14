"""From an order to what is recorded of it: its bytes, encoded once, and the digests that find an equal one."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from kshot.contracts.tasks import LearnerOptions, Payload, SupportSet
from kshot.contracts.wire import Array, Inputs
from kshot.storage.checkpoints import StoredCheckpoint
from kshot.storage.fingerprints import fingerprint_of
from service.choosing import OpenChoice


@dataclass(frozen=True)
class Order:
    """An adaptation a caller asks for, decoded and checked. ``reference`` is the checkpoint as the caller named it.

    With ``choice`` a worker chooses checkpoint and learner, which are None until then. ``follow``: the model moves on
    when ``alias`` does.
    """

    checkpoint: StoredCheckpoint | None
    reference: str
    alias: str | None
    learner: str | None
    options: LearnerOptions
    support: SupportSet
    query: Inputs | None
    ttl_s: int
    metadata: dict[str, Any]
    parent: str | None = None
    choice: OpenChoice | None = None
    follow: bool = False


@dataclass(frozen=True)
class Prepared:
    """An order with everything that takes time to compute, so that the transaction stays short.

    ``payload``: the support, and where the checkpoint is to be chosen the query too; else ``query`` holds that, so that
    it is erased without the support being written again. ``fingerprint``: of what makes two models the same; where the
    checkpoint is to be chosen, that is what it is chosen among. ``support``: of the examples alone. ``content``: the
    part of the fingerprint that stays when the model moves to another checkpoint. ``digest``: of what makes two
    requests the same; it holds the checkpoint's name as sent, so that a retry stays a retry where an alias moved in
    between.
    """

    order: Order
    payload: bytes
    query: bytes | None
    support: str
    content: str
    fingerprint: str
    digest: str

    @property
    def n_bytes(self) -> int:
        """What is stored of support and query."""
        return len(self.payload) + len(self.query or b"")

    def asked(self) -> bytes:
        """Digest of payload and query: what a model that is still being made must have been asked for."""
        digest = hashlib.sha256(self.payload)
        digest.update(self.query or b"")
        return digest.digest()


def prepare(order: Order) -> Prepared:
    """Encode the payload and hash what makes two orders the same."""
    support, choice = order.support, order.choice
    columns = [column.model_dump(mode="json") for column in support.columns]
    what = [list(support.classes), columns, list(support.targets.shape), support.task]
    labels = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
    labels.update(_bytes_of(support.targets))
    examples = labels.copy()
    for inputs in _forms(order):
        _update(examples, inputs)
    made = [examples.hexdigest(), order.options.model_dump(mode="json"), order.parent]
    content = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()
    payload, query = _encoded(order)
    if choice is None:
        request = examples.copy()
    else:
        request = labels
        request.update(choice.sent)
    asked = [*made[1:], order.reference, order.ttl_s, order.metadata, order.follow]
    request.update(json.dumps(asked, sort_keys=True).encode())
    if choice is None:
        _update(request, order.query)
    return Prepared(
        order,
        payload,
        query,
        support=examples.hexdigest(),
        content=content,
        fingerprint=fingerprint_of(content, _made_with(order), support.task, _follows(order)),
        digest=request.hexdigest(),
    )


def _follows(order: Order) -> str | None:
    if not order.follow or order.checkpoint is None:
        return None
    return f"{order.checkpoint.manifest.name}@{order.alias}"


def _forms(order: Order) -> list[Inputs]:
    """The examples in all forms asked for: pictures that one of them cannot tell apart differ in another."""
    others = () if order.choice is None else order.choice.others
    return [order.support.inputs, *(form.inputs for form in others)]


def _made_with(order: Order) -> list[Any]:
    """The checkpoint and the learner, or all that they are chosen among."""
    if order.choice is not None:
        return sorted([candidate.checkpoint.id, candidate.learner] for candidate in order.choice.candidates)
    assert order.checkpoint is not None
    return [order.checkpoint.id, order.learner]


def _encoded(order: Order) -> tuple[bytes, bytes | None]:
    """The support and the query; together where a worker is to choose between their forms."""
    choice = order.choice
    if choice is not None:
        whole = Payload(
            order.support, order.query, order.options, candidates=choice.candidates, others=choice.others
        )  # fmt: skip
        return whole.encode(), None
    support = Payload(order.support, options=order.options).encode()
    return support, None if order.query is None else Payload(query=order.query).encode()


def _update(digest: "hashlib._Hash", inputs: Inputs | None) -> None:
    """Texts go in as JSON, so that ["ab"] and ["a", "b"] differ; arrays with their shape."""
    if inputs is None:
        digest.update(b"none")
    elif isinstance(inputs, list):
        digest.update(json.dumps(inputs).encode())
    else:
        digest.update(str(inputs.shape).encode())
        digest.update(_bytes_of(inputs))


def _bytes_of(array: Array) -> memoryview:
    """An array's bytes, not copied where they lie in order."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
