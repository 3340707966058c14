"""Checkpoints, the aliases that point at them, and promotions."""

from kshot.client.endpoint import Calls, endpoint, lists, read
from kshot.client.failures import explained
from kshot.client.models import given
from kshot.client.pages import pages
from kshot.client.progress import waiting
from kshot.client.requests import Request, at, json_body
from kshot.client.steps import Emit, Script
from kshot.client.waits import PENDING, Deadline, polled, preferring
from kshot.contracts.errors import Invalid, WorseThanIncumbent, rebuild
from kshot.contracts.registry import describe_loss
from kshot.contracts.registry_bodies import Alias, AliasChange, Checkpoint, Promotion

PROMOTION_WAIT_S = 3600.0


class RegistryCalls(Calls):
    """Of both clients."""

    @endpoint
    def checkpoint(self, id: str) -> Script[Checkpoint]:
        """A checkpoint by id, ``name@alias`` or ``name``, with its evaluation table and lineage. Raises NotFound."""
        response = yield from self._send(Request("GET", at("/v1/checkpoints", id)))
        return read(Checkpoint, response.content)

    @lists(Checkpoint, Checkpoint)
    def checkpoints(self, *, name: str | None = None) -> Script[None]:
        """All checkpoints, or those of this ``name``, newest first, without deleted ones."""
        yield from pages(self, "/v1/checkpoints", given(name=name))

    @endpoint
    def delete_checkpoint(self, id: str) -> Script[None]:
        """For administrators: delete a checkpoint and its weights. Raises Conflict while something needs it."""
        yield from self._send(Request("DELETE", at("/v1/checkpoints", id)))

    @endpoint
    def alias(self, name: str) -> Script[Alias]:
        """Where ``name@alias`` (``name`` means ``name@production``) points. Raises NotFound."""
        response = yield from self._send(Request("GET", at("/v1/aliases", name)))
        return read(Alias, response.content)

    @lists(Alias, Alias)
    def aliases(self) -> Script[None]:
        """All aliases, by name."""
        response = yield from self._send(Request("GET", "/v1/aliases"))
        yield Emit(response.content)

    @lists(AliasChange, AliasChange)
    def alias_history(self, name: str) -> Script[None]:
        """What an alias pointed at, newest first. Raises NotFound."""
        response = yield from self._send(Request("GET", at("/v1/aliases", name, "history")))
        yield Emit(response.content)

    @endpoint
    def promote(
        self,
        name: str,
        checkpoint: str,
        *,
        dataset: str | None = None,
        force: bool = False,
        version: int | None = None,
        wait: float | None = PROMOTION_WAIT_S,
    ) -> Script[Alias]:
        """For administrators: point an alias at a checkpoint; the alias as it is then.

        Onto ``@production``, where another checkpoint is, the two are compared first on the same held-out episodes.

        Args:
            name: ``name@alias``; ``name`` means ``name@production``.
            checkpoint: an id, ``name@alias`` or ``name``.
            dataset: id or name of the data set to compare on; by default one that either was meta-trained on.
            force: move it without a comparison.
            version: only if the alias is still at this version (`Alias.version`).
            wait: seconds to wait for the comparison; None for as long as it takes.

        Raises:
            WorseThanIncumbent: it does worse than what is in production; the message has the figures, ``promotion`` the
                id of the comparison.
            PreconditionFailed: the alias is not at ``version`` any more.
            WaitTimedOut: they are still being compared; call it again to go on waiting.
        """
        deadline = Deadline(wait)
        body = json_body({"checkpoint": checkpoint, **given(dataset=dataset, force=force or None)})
        request = expecting(Request("PUT", at("/v1/aliases", name), body=body), version)
        response = yield from self._send(preferring(request, deadline))
        if response.status_code != 202:
            return read(Alias, response.content)
        promotion = yield from self._decided(read(Promotion, response.content).id, deadline)
        if promotion.status != "promoted":
            raise refusal_of(promotion)
        response = yield from self._send(Request("GET", at("/v1/aliases", name)))
        return read(Alias, response.content)

    @endpoint
    def roll_back(self, name: str, *, to: int | None = None, version: int | None = None) -> Script[Alias]:
        """For administrators: point an alias at what it pointed at before the present checkpoint, or at version ``to``
        of its history, at once and without a comparison; the alias as it is then.

        ``version``: only if the alias is still at this version; by default the one that it is at when this is called.
        Raises Conflict where there is nothing to roll back to, PreconditionFailed.
        """
        if version is None:  # a rollback that is sent twice goes one step further, unless it says from where
            response = yield from self._send(Request("GET", at("/v1/aliases", name)))
            version = read(Alias, response.content).version
        body = json_body(given(version=to))
        response = yield from self._send(
            expecting(Request("POST", at("/v1/aliases", name, "rollback"), body=body, repeatable=False), version)
        )
        return read(Alias, response.content)

    @endpoint
    def promotion(self, id: str) -> Script[Promotion]:
        """For administrators: a comparison with what is in production, and what came of it. Raises NotFound."""
        response = yield from self._send(Request("GET", at("/v1/promotions", id)))
        return read(Promotion, response.content)

    @lists(Promotion, Promotion)
    def promotions(self, *, name: str | None = None) -> Script[None]:
        """For administrators: all comparisons, or those of checkpoints of this ``name``, newest first."""
        yield from pages(self, "/v1/promotions", given(name=name))

    def _decided(self, id: str, deadline: Deadline) -> Script[Promotion]:
        with waiting(self._driver.progress, "comparing with what is in production"):
            response = yield from polled(
                self._send,
                at("/v1/promotions", id),
                deadline,
                "the promotion",
                lambda it: read(Promotion, it.content).status in PENDING,
            )
        return read(Promotion, response.content)


def expecting(request: Request, version: int | None) -> Request:
    """The request, refused where the alias is at another version."""
    return request if version is None else request.with_headers(If_Match=f'"{version}"')


def refusal_of(promotion: Promotion) -> Exception:
    """What a promotion that moved nothing means."""
    if promotion.error is not None:
        return rebuild(promotion.error.code, promotion.error.message, promotion.error.param)
    if promotion.comparison is None:
        return Invalid(f"promotion {promotion.id} ended as {promotion.status}")
    refused = WorseThanIncumbent(describe_loss(promotion.comparison), param="checkpoint")
    refused.promotion = promotion.id
    return explained(refused, remedy="promote with force=True to do it anyway")
