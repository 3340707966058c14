"""Adapted models as a client has them: what the service told about one, and what can be done with it."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import PrivateAttr

from kshot.client.drivers import AwaitingDriver, BlockingDriver
from kshot.client.endpoint import Async, Calls, Sync, endpoint, gives_own_kind, lists, read
from kshot.client.inputs import Inputs, Labels, as_inputs, as_labels, body_of
from kshot.client.progress import waiting
from kshot.client.requests import Content, Request, at, json_body
from kshot.client.steps import Emit, Script
from kshot.client.waits import PENDING, Deadline, polled, preferring
from kshot.contracts import api
from kshot.contracts.errors import rebuild
from kshot.contracts.flywheel_bodies import Feedback, Revision
from kshot.contracts.tasks import Label, Wanted

WAIT_S = 300.0


class Prediction(api.Prediction):
    """The answers to one call, in the order of its inputs, as `predictions` and, one part of each, by name."""

    @property
    def labels(self) -> list[Label | None]:
        """The class of each input; None where `reject_below` rejected it."""
        return [one.get("label") for one in self.predictions]

    @property
    def probabilities(self) -> list[dict[str, float]]:
        """Of each input: class, as a string, to probability."""
        return [one.get("probabilities", {}) for one in self.predictions]

    @property
    def values(self) -> list[Any]:
        """Regression: the number (or the list of numbers) of each input."""
        return [one.get("value") for one in self.predictions]

    @property
    def stds(self) -> list[Any]:
        """Regression: the standard deviation of each value; None where the learner gives none."""
        return [one.get("std") for one in self.predictions]

    @property
    def nearest(self) -> list[list[dict[str, Any]]]:
        """Where `wanted` has it: of each input the examples most like it, {index, label, similarity}."""
        return [one.get("nearest", []) for one in self.predictions]


class ModelCalls(Calls):
    """What can be done with an adapted model. It is a snapshot: calls that change it give a new one."""

    id: str

    @endpoint
    def predict(
        self,
        inputs: Inputs,
        *,
        wanted: Sequence[Wanted] | None = None,
        top_k: int | None = None,
        reject_below: float | None = None,
        store: bool = False,
    ) -> Script[Prediction]:
        """Answer inputs; an answer does not depend on the other inputs.

        Args:
            inputs: texts, vectors or pictures, as in `adapt`.
            wanted: parts of each answer: ``labels``, ``probabilities``, ``logits``, ``values``, ``nearest`` (the
                examples most like it); by default the first two for classes, ``values`` for regression.
            top_k: only the k most probable classes.
            reject_below: answer ``label: None`` where the best probability is lower (0 to 1).
            store: record the inputs, too; answers are always recorded.
        """
        settings = prediction_settings(wanted=wanted, top_k=top_k, reject_below=reject_below, store=store)
        body = body_of({"model": self.id, **settings}, query=inputs, query_as="inputs")
        response = yield from self._send(Request("POST", "/v1/predict", body=body))
        return read(Prediction, response.content)

    @gives_own_kind
    def add_examples(
        self,
        inputs: Inputs,
        labels: Labels,
        *,
        query: Inputs | None = None,
        ttl_seconds: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        wait: float | None = WAIT_S,
    ) -> Script[bytes]:
        """A new model from this one's examples and these, which may bring new classes; this one stays as it is.

        ``query``, ``ttl_seconds``, ``metadata``, ``wait``: as in `adapt`.
        """
        settings = given(ttl_seconds=ttl_seconds, metadata=metadata)
        body = body_of(settings, support=(inputs, labels), query=query)
        path = at("/v1/adapted-models", self.id, "examples")
        return (yield from made(self, Request("POST", path, body=body, found_again=True), wait))

    @gives_own_kind
    def refresh(self) -> Script[bytes]:
        """The same model as the service knows it now."""
        response = yield from self._send(Request("GET", at("/v1/adapted-models", self.id)))
        return response.content

    @gives_own_kind
    def wait(self, timeout: float | None = WAIT_S) -> Script[bytes]:
        """The model once it is made; None waits for as long as it takes.

        Raises:
            WaitTimedOut: it is not made after ``timeout`` seconds; it goes on being made.
            KshotError: it cannot be made; of the class that its error's code names.
        """
        return (yield from until_made(self, self.id, Deadline(timeout)))

    @gives_own_kind
    def change(
        self,
        *,
        ttl_seconds: int | None = None,
        pinned: bool | None = None,
        metadata: Mapping[str, Any] | None = None,
        follow: bool | None = None,
    ) -> Script[bytes]:
        """Change how long it stays (from now), whether it is pinned, its metadata, or whether it follows its alias.

        What is not given stays.
        """
        body = json_body(given(ttl_seconds=ttl_seconds, pinned=pinned, metadata=metadata, follow=follow))
        response = yield from self._send(Request("PATCH", at("/v1/adapted-models", self.id), body=body))
        return response.content

    @gives_own_kind
    def pin(self) -> Script[bytes]:
        """Keep it: a pinned model does not expire."""
        response = yield from self._send(
            Request("PATCH", at("/v1/adapted-models", self.id), body=json_body({"pinned": True}))
        )
        return response.content

    @endpoint
    def feedback(
        self, labels: Labels, inputs: Inputs | None = None, *, prediction: str | None = None
    ) -> Script[Feedback]:
        """Tell the true labels of queries: of a recorded ``prediction`` (its id), in its order, None where a label is
        not known; or of ``inputs`` sent along. It changes no answer; `observed` tells how well the model did."""
        settings = given(prediction=prediction)
        if inputs is None:
            body = json_body({**settings, "labels": as_labels(labels)})
        else:
            body = _told(settings, inputs, labels)
        request = Request("POST", at("/v1/adapted-models", self.id, "feedback"), body=body).created_once()
        response = yield from self._send(request)
        return read(Feedback, response.content)

    @lists(Revision, Revision)
    def history(self) -> Script[None]:
        """Newest first: how it was made and, where it follows an alias, what became of each move."""
        response = yield from self._send(Request("GET", at("/v1/adapted-models", self.id, "history")))
        yield Emit(response.content)

    @endpoint
    def delete(self) -> Script[None]:
        """Erase it, with its examples, its feedback and all predictions made with it."""
        yield from self._send(Request("DELETE", at("/v1/adapted-models", self.id)))


class Model(Sync, ModelCalls, api.AdaptedModel):
    """An adapted model of a `Client`: the fields below, as they were when it was asked for."""

    _driver: BlockingDriver = PrivateAttr()


class AsyncModel(Async, ModelCalls, api.AdaptedModel):
    """An adapted model of an `AsyncClient`; its calls are awaited."""

    _driver: AwaitingDriver = PrivateAttr()


def model_with(id: str, driver: BlockingDriver) -> Model:
    """A handle of the model with this id, nothing else of which is known here."""
    known: dict[str, Any] = {"id": id}
    model = Model.model_construct(**known)
    model._driver = driver
    return model


def made(calls: Calls, request: Request, wait: float | None) -> Script[bytes]:
    """The JSON of the model that a request makes, once it is made, or pending where ``wait`` is 0."""
    deadline = Deadline(wait)
    response = yield from calls._send(preferring(request, deadline))
    if response.status_code != 202 or wait == 0:
        return response.content
    pending = read(api.AdaptedModel, response.content)
    return (yield from until_made(calls, pending.id, deadline))


def until_made(calls: Calls, id: str, deadline: Deadline) -> Script[bytes]:
    """The JSON of a model once it is made. Raises what it failed of."""
    path = at("/v1/adapted-models", id)
    with waiting(calls._driver.progress, f"adapting {id}"):
        response = yield from polled(
            calls._send, path, deadline, "the model", lambda it: read(api.AdaptedModel, it.content).status in PENDING
        )
    model = read(api.AdaptedModel, response.content)
    if model.error is not None:
        raise rebuild(model.error.code, model.error.message, model.error.param)
    return response.content


def given(**settings: Any) -> dict[str, Any]:
    """The settings that a caller gave: None means that he did not."""
    return {name: value for name, value in settings.items() if value is not None}


def prediction_settings(
    *, wanted: Sequence[Wanted] | None, top_k: int | None, reject_below: float | None, store: bool
) -> dict[str, Any]:
    """Of a predict request, as the API names them."""
    wishes = None if wanted is None else list(wanted)
    return given(**{"return": wishes}, top_k=top_k, reject_below=reject_below, store=store or None)


def _told(settings: Mapping[str, Any], inputs: Inputs, labels: Labels) -> Content:
    """Inputs with their true labels, which feedback has at the top of its JSON."""
    block = as_inputs(inputs, "inputs")
    if isinstance(block, list):
        return json_body({**settings, "inputs": block, "labels": as_labels(labels)})
    return body_of(settings, support=(block, labels))
