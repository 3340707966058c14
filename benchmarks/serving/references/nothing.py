"""A route that reads the body, looks at nothing, and answers a little JSON: what HTTP alone costs with FastAPI."""

from fastapi import FastAPI, Request

app = FastAPI()


@app.post("/predict")
async def predict(request: Request) -> dict[str, int]:
    return {"bytes": len(await request.body())}
