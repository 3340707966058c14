"""Adapt the shipped text checkpoint once over HTTP. ``serve`` runs it as ``python -m standalone.self_check URL``.

A process of its own, so that the supervisor stays free to hear Ctrl-C and to look after its parts.
"""

import json
import os
import shlex
import sys
import time
import urllib.error
import urllib.request
from typing import Any

PATIENCE = 60  # seconds the service may hold the request
KEPT = 600  # seconds the self-check's model is kept
EXAMPLE: dict[str, Any] = {
    "checkpoint": "intents@production",
    "support": {
        "inputs": ["where is my card", "card has not come", "I want a refund", "give me my money back"],
        "labels": ["arrival", "arrival", "refund", "refund"],
    },
    "query": {"inputs": ["my new card is late"]},
}


def curl(url: str) -> str:
    """The same request as a command to paste."""
    words = ["curl", "-s", f"{url}/adapt", "-H", "Content-Type: application/json"]
    command = " ".join(word if word.isidentifier() else shlex.quote(word) for word in words)
    key = ' -H "Authorization: Bearer $KSHOT_ADMIN_KEY"' if os.environ.get("KSHOT_ADMIN_KEY") else ""
    return f"{command}{key} -d {shlex.quote(json.dumps(EXAMPLE))}"


def adapt_example(url: str) -> tuple[int, dict[str, Any], float]:
    """POST the example; returns the status, the body and the milliseconds it took.

    A seed of its own makes it work for the worker: the same task again would be answered from the store.
    """
    task = EXAMPLE | {"options": {"seed": time.time_ns() % 2**31}, "ttl_seconds": KEPT}
    headers = {"Content-Type": "application/json", "Prefer": f"wait={PATIENCE}"}
    if key := os.environ.get("KSHOT_ADMIN_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(f"{url}/adapt", json.dumps(task).encode(), headers)  # noqa: S310 (our own URL)
    started = time.perf_counter()
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE + 5) as answer:  # noqa: S310
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        status, body = refusal.code, refusal.read()
    return status, json.loads(body), (time.perf_counter() - started) * 1000


def summary(status: int, body: dict[str, Any], milliseconds: float) -> str:
    """One line for the terminal.

    Raises:
        ValueError: the answer is no adapted model with a prediction.
    """
    if status == 401:
        return "self-check: passed over, because this service asks for a key (set KSHOT_ADMIN_KEY to run it)"
    if status not in (200, 201) or not body.get("predictions"):
        raise ValueError(f"POST /adapt answered {status}: {body.get('detail') or json.dumps(body)}")
    prediction = body["predictions"][0]
    label = prediction["label"]
    certainty = prediction["probabilities"][label]
    question = EXAMPLE["query"]["inputs"][0]
    compute = body.get("timings", {}).get("compute_ms")
    detail = f", {compute:.1f} ms of it in the worker" if compute is not None else ""
    return f'self-check: 4 examples, then "{question}" -> {label} ({certainty:.2f}) in {milliseconds:.0f} ms{detail}'


def main() -> int:
    try:
        print(summary(*adapt_example(sys.argv[1])))
    except (OSError, ValueError, KeyError) as error:
        print(f"self-check failed: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
