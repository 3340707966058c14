"""A caller of the HTTP API that adapts, predicts and waits its turn."""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx

_PATIENCE_S = 120


class Caller:
    """One HTTP connection pool. ``key`` only where the service asks for one."""

    def __init__(self, url: str, key: str | None = None) -> None:
        headers = {"Prefer": "wait=60"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._http = httpx.AsyncClient(base_url=url, headers=headers, timeout=_PATIENCE_S)

    async def close(self) -> None:
        await self._http.aclose()

    async def adapt(self, checkpoint: str, inputs: Sequence[Any], labels: Sequence[Any], **options: Any) -> str:
        """The id of a model adapted to the examples."""
        support = {"inputs": list(inputs), "labels": list(labels)}
        answer = await self._post("/adapt", {"checkpoint": checkpoint, "support": support, "options": options})
        if answer["status"] != "succeeded":
            raise RuntimeError(f"adapting took longer than a minute: {answer}")
        return str(answer["id"])

    async def labels(self, model: str, inputs: Sequence[Any]) -> list[Any]:
        """The predicted label of each input."""
        answer = await self._post("/predict", {"model": model, "inputs": list(inputs), "return": ["labels"]})
        return [prediction["label"] for prediction in answer["predictions"]]

    async def values(self, model: str, inputs: Sequence[Any]) -> list[Any]:
        """The predicted value of each input."""
        answer = await self._post("/predict", {"model": model, "inputs": list(inputs), "return": ["values"]})
        return [prediction["value"] for prediction in answer["predictions"]]

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        while True:
            answer = await self._http.post(path, json=body)
            if answer.status_code in {429, 503}:
                await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))
                continue
            if answer.is_error:
                raise RuntimeError(f"{path} answered {answer.status_code}: {answer.text[:500]}")
            body_out: dict[str, Any] = answer.json()
            return body_out
