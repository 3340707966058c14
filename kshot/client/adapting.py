"""Adapting, predicting, and the adapted models a tenant has: the part of a client that every caller needs."""

from collections.abc import Mapping, Sequence
from typing import Any

from kshot.client.endpoint import Calls, endpoint, gives, lists, read
from kshot.client.inputs import Inputs, Labels, body_of
from kshot.client.models import WAIT_S, AsyncModel, Model, Prediction, given, made, prediction_settings
from kshot.client.pages import pages
from kshot.client.requests import Request, at
from kshot.client.steps import Script
from kshot.contracts.tasks import LearnerOptions, Wanted

Options = LearnerOptions | Mapping[str, Any]


class AdaptingCalls(Calls):
    """Of both clients."""

    @gives(Model, AsyncModel)
    def adapt(
        self,
        checkpoint: str,
        inputs: Inputs,
        labels: Labels,
        *,
        query: Inputs | None = None,
        options: Options | None = None,
        ttl_seconds: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        follow: bool = False,
        wait: float | None = WAIT_S,
    ) -> Script[bytes]:
        """Teach a checkpoint a handful of labelled examples.

        Args:
            checkpoint: ``name`` (means ``name@production``), ``name@alias``, an id, or ``auto``.
            inputs: n examples: strings; vectors as an array (n, width), a table or lists of numbers; pictures as Pillow
                images, `pathlib.Path`, bytes of PNG or JPEG files, or uint8 arrays.
            labels: one for each: strings or integers for classes, floats (or lists of them) for regression, mappings
                ``{target: value or None}`` for several targets.
            query: inputs to be answered in the same call; the answers are in the model's ``predictions``.
            options: of the learner: ``learner``, ``task``, ``targets``, ``inner_steps``, ``inner_lr``, ``l2``,
                ``seed``.
            ttl_seconds: until the model expires; 30 days by default.
            metadata: kept with the model, never read.
            follow: when the alias moves to another checkpoint, make the model again there.
            wait: seconds to wait until it is made; None for as long as it takes, 0 for a pending model at once.

        The same examples, checkpoint and options give the same model again.

        Raises:
            Invalid: examples, labels or options do not fit; ``param`` names the field.
            NotFound: there is no such checkpoint.
            AdaptationFailed: the learner gave no usable model.
            WaitTimedOut: it is not made after ``wait`` seconds; it goes on being made.
        """
        settings = given(
            checkpoint=checkpoint,
            options=plain_options(options),
            ttl_seconds=ttl_seconds,
            metadata=metadata,
            follow=follow or None,
        )
        body = body_of(settings, support=(inputs, labels), query=query)
        return (yield from made(self, Request("POST", "/v1/adapt", body=body, found_again=True), wait))

    @endpoint
    def predict(
        self,
        checkpoint: str,
        inputs: Inputs,
        labels: Labels,
        query: Inputs,
        *,
        options: Options | None = None,
        wanted: Sequence[Wanted] | None = None,
        top_k: int | None = None,
        reject_below: float | None = None,
        store: bool = False,
    ) -> Script[Prediction]:
        """Adapt and answer ``query`` in one call that keeps no model; parameters as in `adapt` and `Model.predict`."""
        settings = {"checkpoint": checkpoint, **given(options=plain_options(options))}
        settings |= prediction_settings(wanted=wanted, top_k=top_k, reject_below=reject_below, store=store)
        body = body_of(settings, support=(inputs, labels), query=query, query_as="inputs")
        response = yield from self._send(Request("POST", "/v1/predict", body=body))
        return read(Prediction, response.content)

    @gives(Model, AsyncModel)
    def model(self, id: str) -> Script[bytes]:
        """The adapted model with this id (``am_...``). Raises NotFound, Expired."""
        response = yield from self._send(Request("GET", at("/v1/adapted-models", id)))
        return response.content

    @lists(Model, AsyncModel)
    def models(self) -> Script[None]:
        """Your adapted models, newest first, without expired ones and without `predictions`."""
        yield from pages(self, "/v1/adapted-models")


def plain_options(options: Options | None) -> dict[str, Any] | None:
    """As a request has them."""
    if isinstance(options, LearnerOptions):
        return options.model_dump(mode="json", exclude_none=True)
    return None if options is None else dict(options)
