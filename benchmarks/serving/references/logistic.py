"""scikit-learn's LogisticRegression, fitted in every request: JSON on /adapt, safetensors on /adapt-tensors."""

from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from safetensors.numpy import load
from sklearn.linear_model import LogisticRegression

app = FastAPI()


class Examples(BaseModel):
    inputs: list[list[float]]
    labels: list[int]


class Query(BaseModel):
    inputs: list[list[float]]


class AdaptRequest(BaseModel):
    checkpoint: str
    support: Examples
    query: Query


@app.post("/adapt", status_code=201)
def adapt(request: AdaptRequest) -> dict[str, Any]:
    """Not ``async``, so FastAPI runs it in its thread pool."""
    return answer(np.asarray(request.support.inputs), request.support.labels, np.asarray(request.query.inputs))


@app.post("/adapt-tensors", status_code=201)
async def adapt_tensors(request: Request) -> dict[str, Any]:
    tensors = load(await request.body())
    return await run_in_threadpool(
        answer, tensors["support.inputs"], tensors["support.targets"].tolist(), tensors["query.inputs"]
    )


def answer(support: Any, labels: list[int], query: Any) -> dict[str, Any]:
    """A label and the probabilities for each row of the query."""
    model = LogisticRegression(max_iter=1000).fit(support, labels)
    classes = [int(label) for label in model.classes_]
    predictions = [
        {"label": classes[int(row.argmax())], "probabilities": dict(zip(classes, row.tolist(), strict=True))}
        for row in model.predict_proba(query)
    ]
    return {"status": "succeeded", "predictions": predictions}
