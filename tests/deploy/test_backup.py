"""The backup of the cluster: hardened as the rest, with settings that are settings and commands that are commands."""

import os
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.deploy.composition import composition, filled_in
from tests.deploy.manifests import ROOT, containers, of_kind, pods, read
from tests.deploy.test_kubernetes import VERSIONS
from tests.deploy.variables import names_of
from workers.__main__ import parser
from workers.settings import StoreSettings

FOLDER = ROOT / "components" / "backup"
DOCUMENTS = [
    document for file in read(FOLDER / "kustomization.yaml")[0]["resources"] for document in read(FOLDER / file)
]
CRON = {document["metadata"]["name"]: document["spec"] for document in of_kind(DOCUMENTS, "CronJob")}


def template(name: str) -> dict[str, Any]:
    found: dict[str, Any] = CRON[name]["jobTemplate"]["spec"]["template"]
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_all_follow_their_schema(version: str):
    for document in DOCUMENTS:
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("name", sorted(CRON))
def test_its_pods_are_like_those_of_publish(name: str):
    ((_, publish),) = pods(of_kind(read(ROOT / "base" / "publish.yaml"), "Job"))
    pod, known = template(name)["spec"], publish["spec"]
    for field in ("automountServiceAccountToken", "enableServiceLinks", "securityContext"):
        assert pod[field] == known[field]
    (container,), ours = containers(template(name)), known["containers"][0]
    for field in ("image", "envFrom", "env", "securityContext"):
        assert container[field] == ours[field]
    assert container["volumeMounts"] == [*ours["volumeMounts"], {"name": "backups", "mountPath": "/backups"}]
    *shared, backups = pod["volumes"]
    assert shared == known["volumes"]
    (claim,) = of_kind(DOCUMENTS, "PersistentVolumeClaim")
    assert backups["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_nothing_is_restored_by_itself():
    assert CRON["kshot-restore"]["suspend"] is True and "suspend" not in CRON["kshot-backup"]
    command = containers(template("kshot-restore"))[0]["command"]
    assert command[:3] == ["python", "-m", "workers"]
    given = parser().parse_args(command[3:])
    assert (given.command, given.folder) == ("restore", Path("/backups/latest"))


def test_the_script_keeps_seven_backups_and_says_which_is_the_last(tmp_path: Path):
    """With a program in the place of ours that says what it was told, and makes a folder, or fails."""
    (script,) = containers(template("kshot-backup"))[0]["command"][2:]
    kept, programs = tmp_path / "backups", tmp_path / "bin"
    for i in range(9):
        (kept / f"2020-01-0{i + 1}T0215").mkdir(parents=True)
    programs.mkdir()
    (programs / "python").write_text('#!/bin/sh\necho "$@" && mkdir "$4"\n')
    (programs / "python").chmod(0o755)
    command = ["sh", "-euc", script.replace("/backups", str(kept))]
    environ = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    said = subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout.split()
    given = parser().parse_args(said[2:])
    assert said[:2] == ["-m", "workers"] and given.command == "backup"
    assert sorted(path.name for path in kept.iterdir())[:-1] == [
        *(f"2020-01-0{i + 1}T0215" for i in range(3, 9)), given.folder.name
    ]  # fmt: skip
    assert (kept / "latest").resolve() == given.folder
    (programs / "python").write_text("#!/bin/sh\nexit 1\n")
    assert subprocess.run(command, env=environ, check=False).returncode == 1, "the job is to fail"


def test_compose_passes_the_words_on_and_knows_the_stores():
    backup = filled_in(composition(), {})["services"]["backup"]
    assert backup["entrypoint"] == ["python", "-m", "workers"] and parser().parse_args(backup["command"])
    assert set(backup["environment"]) <= names_of(StoreSettings) | {"REDIS_URL"}
    assert "./backups:/backups" in backup["volumes"]
