"""What an administrator brings to the console, and how to come to its pages."""

import io
import time
import zipfile
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
from PIL import Image, ImageDraw
from playwright.sync_api import Page, expect

from tests.console.browser import DESKTOP, PHONE, assert_accessible, assert_fits, settle

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
    """A zip of class folders with drawings, and some megabytes of something else, which is passed over."""
    rng = np.random.default_rng(0)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("notes.txt", rng.bytes(4 * 2**20))
        for k in range(n_classes):
            corners = rng.uniform(12, 84, size=(4, 2))
            for i in range(each):
                opened.writestr(f"symbol-{k}/{i}.png", _drawn(corners + rng.normal(size=(4, 2)) * 4))
    return archive.getvalue()


def _drawn(corners: np.ndarray) -> bytes:  # type: ignore[type-arg]
    """A PNG of a line through these."""
    picture = Image.new("L", (96, 96), 255)
    ImageDraw.Draw(picture).line([(x, y) for x, y in corners.tolist()], fill=0, width=5, joint="curve")
    packed = io.BytesIO()
    picture.save(packed, "PNG")
    return packed.getvalue()


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
