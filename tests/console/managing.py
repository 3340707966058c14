"""What an administrator brings to the console, and how to come to its pages."""

import io
import time
import zipfile
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
from playwright.sync_api import Page, expect

from tests.console.browser import DESKTOP, PHONE, assert_accessible, assert_fits, settle
from tests.flow.http_stack import drawing_file

OPEN = ("queued", "running", "pausing", "cancelling")


def signals(n_classes: int = 14, seed: int = 0) -> bytes:
    """CSV of vectors whose class shows in two columns of twelve; the others are loud noise, which a network learns to
    overhear."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_classes, 2)) * 4
    lines = [",".join([*(f"x{i}" for i in range(12)), "label"])]
    for k in range(n_classes):
        for _ in range(24):
            row = np.concatenate([centres[k] + rng.normal(size=2) * 0.7, rng.normal(size=10) * 6])
            lines.append(",".join([*(f"{value:.3f}" for value in row), f"signal-{k:02}"]))
    return "\n".join(lines).encode()


def pictures(n_classes: int = 6, each: int = 4) -> bytes:
    """A zip of class folders with pictures of noise, some megabytes."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for i in range(n_classes * each):
            opened.writestr(f"noise-{i % n_classes}/{i}.png", drawing_file(i, size=400))
    return archive.getvalue()


def upload(client: httpx.Client, name: str, data: bytes) -> str:
    """A data set made over the API; its id."""
    made = client.post("/v1/datasets", data={"request": f'{{"name": "{name}"}}'}, files={"file": ("a.csv", data)})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def start_job(client: httpx.Client, **body: Any) -> str:
    """A job started over the API; its id."""
    answer = client.post("/v1/training-jobs", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def ended(client: httpx.Client, job: str) -> dict[str, Any]:
    """The job once nothing more happens to it."""
    found: dict[str, Any] = {}

    def over() -> bool:
        found.update(client.get(f"/v1/training-jobs/{job}").json())
        return found["status"] not in OPEN

    until(over)
    return found


def until(check: Callable[[], bool], seconds: float = 180) -> None:
    """Wait for something that is no element."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def confirm(page: Page, button: str) -> None:
    """Send the dialog that asks, and see it go."""
    dialog = page.get_by_role("dialog")
    assert_accessible(page)
    dialog.get_by_role("button", name=button).click()
    expect(dialog).to_have_count(0)


def assert_for_everyone(page: Page) -> None:
    """As it is now: by axe, in both schemes, on a desktop and on a phone."""
    settle(page)
    for scheme, size in (("light", DESKTOP), ("dark", PHONE)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        assert_accessible(page)
        assert_fits(page)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(DESKTOP)
