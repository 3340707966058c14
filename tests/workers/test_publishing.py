"""Publishing: once is enough, twice does no harm, and it never undoes a promotion."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from kshot.contracts.errors import Invalid
from kshot.storage.aliases import list_aliases, move_alias
from kshot.storage.checkpoints import list_checkpoints, resolve
from kshot.storage.objects import LocalObjects
from standalone import EmbeddedServers
from tests.flow.http_stack import CHECKOUT
from workers.publishing import checkpoint_folders, publish

RECIPE = """
name = "waves"
description = "a few steps, to see the command work"
tasks = ["regression"]
n_targets = 1

[input]
modality = "vector"
width = 1

[encoder]
name = "mlp"
options = { hidden = [8] }

[learner]
name = "maml"
options = { inner_steps = 1, inner_lr = 0.01 }

[data]
name = "sinusoids"

[training]
scheme = "episodes"
steps = 2
meta_batch = 2
k_shot = [5, 5]
n_query = 5
"""


def write(folder: Path, checkpoint: Checkpoint, name: str, description: str = "first") -> Path:
    manifest = checkpoint.manifest.model_copy(update={"name": name, "description": description})
    save_checkpoint(folder, Checkpoint(manifest, checkpoint.encoder, checkpoint.head))
    return folder


async def in_production(database: AsyncEngine, name: str) -> str:
    async with database.connect() as connection:
        stored, _ = await resolve(connection, name)
    return stored.id


async def test_publishing_again_or_at_once_registers_one_checkpoint(database: AsyncEngine, tmp_path: Path, checkpoint):
    objects = LocalObjects(tmp_path / "objects")
    folder = write(tmp_path / "once", checkpoint, "once")
    at_once = await asyncio.gather(*(publish(database, objects, folder) for _ in range(4)))
    assert set(at_once) == {await publish(database, objects, folder)} == {await in_production(database, "once")}
    async with database.connect() as connection:
        (alias,) = await list_aliases(connection, checkpoint=at_once[0])
        assert (alias.name, alias.alias, alias.version) == ("once", "production", 1)
        stored, _ = await resolve(connection, "once")
    assert objects.get(stored.object_key) == (folder / "weights.safetensors").read_bytes()


async def test_new_content_moves_production_and_known_content_does_not(
    database: AsyncEngine, tmp_path: Path, checkpoint
):
    objects = LocalObjects(tmp_path / "objects")
    folder = write(tmp_path / "moved", checkpoint, "moved")
    first = await publish(database, objects, folder)
    write(folder, checkpoint, "moved", description="second")
    second = await publish(database, objects, folder)
    assert first != second == await in_production(database, "moved")
    async with database.begin() as connection:  # an administrator goes back
        await move_alias(connection, "moved", "production", first, "rollback")
    assert await publish(database, objects, folder) == second
    assert await in_production(database, "moved") == first
    write(folder, checkpoint, "moved", description="third")  # which nobody has compared with the first
    third = await publish(database, objects, folder)
    assert third not in (first, second) and await in_production(database, "moved") == first


async def test_a_folder_with_other_weights_than_its_manifest_names_is_refused(
    database: AsyncEngine, tmp_path: Path, checkpoint
):
    folder = write(tmp_path / "torn", checkpoint, "torn")
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(Invalid, match="sha256"):
        await publish(database, LocalObjects(tmp_path / "objects"), folder)
    async with database.connect() as connection:
        names = [stored.manifest.name for stored in await list_checkpoints(connection, limit=100, after=None)]
    assert "torn" not in names


def test_folders_are_found_below_and_as_given(tmp_path: Path, checkpoint):
    for name in ("b", "a"):
        write(tmp_path / name, checkpoint, name)
    (tmp_path / "recipe-only").mkdir()
    assert [folder.name for folder in checkpoint_folders(tmp_path)] == ["a", "b"]
    assert [folder.name for folder in checkpoint_folders(tmp_path / "b")] == ["b"]


async def test_what_was_trained_from_the_command_line_is_published_into_production(
    servers: EmbeddedServers, database: AsyncEngine, tmp_path: Path
):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    out = tmp_path / "waves"
    train = [sys.executable, "-m", "kshot.training", f"{tmp_path}/recipe.toml", "--data", tmp_path, "--out", out]
    await asyncio.to_thread(subprocess.run, train, cwd=CHECKOUT, check=True)
    await asyncio.to_thread(run_workers, servers, "publish", str(out))
    assert load_checkpoint(out).manifest.lineage.steps == 2
    assert await in_production(database, "waves")


def test_a_missing_setting_is_named_in_one_line():
    environ = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    command = [sys.executable, "-m", "workers", "publish", "nowhere"]
    ended = subprocess.run(command, cwd=CHECKOUT, env=environ, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "DATABASE_URL" in ended.stderr and "Traceback" not in ended.stderr


def test_a_redis_url_that_cannot_be_followed_is_refused_in_one_line():
    environ = os.environ | {"DATABASE_URL": "postgresql://u@h/d", "REDIS_URL": "redis://:secret@h?socket_timeout=3"}
    command = [sys.executable, "-m", "workers", "adapt"]
    ended = subprocess.run(command, cwd=CHECKOUT, env=environ, capture_output=True, text=True)
    assert ended.returncode == 1 and len(ended.stderr.splitlines()) == 1
    assert "REDIS_URL" in ended.stderr and "socket_timeout" in ended.stderr and "secret" not in ended.stderr


def run_workers(servers: EmbeddedServers, *arguments: str) -> None:
    environ = {**os.environ, **servers.environ}
    subprocess.run([sys.executable, "-m", "workers", *arguments], cwd=CHECKOUT, env=environ, check=True)
