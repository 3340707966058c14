"""Several processes that share each meta-batch make what one makes: with real processes, and one really killed."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kshot.contracts.checkpoints import WEIGHTS_FILE, EncoderSpec, ImageInput
from kshot.contracts.jobs import Exit
from kshot.contracts.recipe import Recipe
from kshot.encoders.base import Encoder
from kshot.encoders.registry import build_encoder
from kshot.training.loop import meta_train
from kshot.training.metric import BatchStatistics
from kshot.training.world import ALONE, World
from tests.kshot.training.work_folders import KINDS, events, work_folder

CHECKOUT = Path(__file__).parents[3]
RELATIVE = 1e-4  # of a tensor's largest number, after STEPS steps
STEPS = 20

Case = tuple[str, dict[str, Any], dict[str, Any]]
"""A data set of ``work_folders``, what a job on it asks for, and changes to the training it is planned with."""

CASES: dict[str, Case] = {
    # Plain descent where some gradients are 0 but for rounding, which Adam would scale up: the shift of a head whose
    # classes begin alike.
    "maml-mlp": ("vectors", {"learner": "maml"}, {"meta_batch": 5, "optimiser": "sgd", "lr": 0.1}),
    "maml-conv4": ("drawings", {"learner": "maml"}, {"meta_batch": 3, "steps": 5, "optimiser": "sgd", "lr": 0.1}),
    "protonet-conv4": ("drawings", {"learner": "protonet"}, {"meta_batch": 3, "warp": 0.5, "max_gradient": 1.0}),
    "ridge-text": ("texts", {"learner": "ridge"}, {"meta_batch": 2}),
    "sinusoids": ("curves", {"learner": "maml"}, {"meta_batch": 4}),
    "reptile": ("curves", {"learner": "reptile"}, {"meta_batch": 3, "optimiser": "sgd", "lr": 0.1}),
    "recorded": ("recorded", {}, {"meta_batch": 2, "k_shot": (1, 2), "n_query": 1}),
    "one-draw": ("vectors", {"learner": "protonet"}, {"meta_batch": 1}),
    "joint": ("table", {}, {"meta_batch": 31}),
    "joint-uncertainty": ("table", {}, {"meta_batch": 31, "weighting": "uncertainty"}),
    "joint-pcgrad": ("table", {}, {"meta_batch": 31, "steps": 5, "weighting": "pcgrad"}),
    "joint-affinity": ("table", {}, {"meta_batch": 31, "steps": 5, "weighting": "affinity"}),
    "killed": ("curves", {"learner": "maml"}, {"meta_batch": 2}),
    "not-killed": ("curves", {"learner": "maml"}, {"meta_batch": 2}),
    "dropout": ("table", {"encoder": {"name": "hierarchy", "options": {"levels": [[8]], "dropout": 0.5}}}, {}),
    "unlike": ("curves", {"learner": "maml"}, {}),
}
REFUSED = {"dropout": "dropout is drawn", "unlike": "same recipe and data"}
SMALL: dict[str, dict[str, Any]] = {
    "conv4": {"channels": 4},
    "mlp": {"hidden": [16]},
    "hierarchy": {"levels": [[8]], "dropout": 0.0},
    "text": {"random_features": 0},
}
CHEAP = {"steps": STEPS, "k_shot": (1, 3), "n_query": 2, "options": {"inner_steps": 1}}


def planned(folder: Path, case: Case) -> tuple[Recipe, Path]:
    """The recipe of a case, smaller than planned, and its data folder."""
    kind, request, changes = case
    folder.mkdir()
    recipe = work_folder(folder, KINDS[kind](folder), steps=STEPS, **request).recipe
    options = {**SMALL.get(recipe.encoder.name, {}), **request.get("encoder", {}).get("options", {})}
    ways = {"n_way": (3, 4)} if recipe.training.n_way and kind != "recorded" else {}
    training = recipe.training.model_copy(update=CHEAP | ways | changes)
    encoder = EncoderSpec(name=recipe.encoder.name, options=recipe.encoder.options | options)
    return recipe.model_copy(update={"training": training, "encoder": encoder, "evaluation": []}), folder / "data"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As each of two processes has. Two threads on busy cores wait for one another, spinning, for most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases trained by two processes into ``shared``, and by this one into ``alone``."""
    folder = tmp_path_factory.mktemp("cases")
    recipes = {name: planned(folder / name, case) for name, case in CASES.items()}
    for name, (recipe, data) in recipes.items():
        content = {"recipe": recipe.model_dump(mode="json"), "data": str(data)}
        (folder / f"{name}.json").write_text(json.dumps(content))
    ranks = [sys.executable, "-m", "kshot.training.ranks", "2", "tests.kshot.training.in_company", str(folder)]
    done = subprocess.run(ranks, cwd=CHECKOUT, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for name, (recipe, data) in recipes.items():
        if name not in REFUSED:
            meta_train(recipe, data, folder / "alone" / name, "the command", lambda line: None)
    return folder


def difference(one: Path, other: Path) -> float:
    """The largest difference of any number, relative to the largest number of its tensor."""
    first, second = load_file(one / WEIGHTS_FILE), load_file(other / WEIGHTS_FILE)
    assert first.keys() == second.keys()
    gaps = [
        float((first[name] - second[name]).abs().max() / first[name].abs().max().clamp(min=1e-3))
        for name in first
        if first[name].numel()
    ]
    return max(gaps)


@pytest.mark.parametrize("name", [name for name in CASES if name not in REFUSED])
def test_two_processes_make_what_one_makes(name: str, trained: Path) -> None:
    assert difference(trained / "alone" / name, trained / "shared" / name) < RELATIVE


def test_after_a_kill_the_group_goes_on_from_the_last_save(trained: Path) -> None:
    """Bit for bit, and with no more than one save interval done twice: 20 saves in 20 steps."""
    said = (trained / "killed.said").read_text().splitlines()
    assert "continuing after step 13" in said and "step 14/20" not in " ".join(said[:13])
    one, other = (load_file(trained / "shared" / name / WEIGHTS_FILE) for name in ("killed", "not-killed"))
    assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_shared_is_refused_by_every_process(name: str, trained: Path) -> None:
    for rank in (0, 1):
        assert REFUSED[name] in (trained / f"{name}.refused{rank}").read_text()


def test_a_job_of_two_processes_stops_at_sigterm_and_goes_on(tmp_path: Path) -> None:
    work_folder(tmp_path, KINDS["curves"](tmp_path), steps=5000, workers_per_job=2)
    command = [sys.executable, "-m", "kshot.training.ranks", "2", "kshot.training.job", str(tmp_path)]
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(command, cwd=CHECKOUT, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while not events(tmp_path, "step") and time.monotonic() < deadline:
            time.sleep(0.1)
        job.send_signal(signal.SIGTERM)
        assert job.wait(30) == Exit.STOPPED, (tmp_path / "log").read_text()[-3000:]
    finally:
        job.kill()
    assert events(tmp_path, "saved") and not events(tmp_path, "failed")


def test_the_documented_command_trains_across_hosts(tmp_path: Path) -> None:
    """Two agents, as two hosts would have; only the first one's folder is written to."""
    (command,) = re.findall(
        r"^(torchrun (?:.*\\\n)*.*)$", (CHECKOUT / "docs/how-to/several-processes.md").read_text(), re.M
    )
    recipe, data = planned(tmp_path / "case", CASES["sinusoids"])
    (tmp_path / "recipe.toml").write_text(toml(recipe))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    run = [sys.executable, "-m", "torch.distributed.run", "--local-addr", "127.0.0.1"]
    hosts = []
    for host in ("first", "second"):
        words = {"HOST:29500": f"127.0.0.1:{port}", "RECIPE": str(tmp_path / "recipe.toml"), "DIR": str(data)}
        argv = [words.get(word, word) for word in shlex.split(command.replace("\\\n", " "))]
        argv[argv.index("OUT")] = str(tmp_path / host)
        log = (tmp_path / f"{host}.log").open("w")
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
        hosts.append(subprocess.Popen(run + argv[1:], cwd=CHECKOUT, env=environment, stdout=log, stderr=log))
    try:
        codes = [host.wait(90) for host in hosts]
    finally:
        for host in hosts:
            host.kill()
    assert codes == [0, 0], (tmp_path / "first.log").read_text()[-3000:]
    (written,) = [tmp_path / host for host in ("first", "second") if (tmp_path / host).exists()]
    meta_train(recipe, data, tmp_path / "alone", "the command", lambda line: None)
    assert difference(tmp_path / "alone", written) < RELATIVE


def toml(recipe: Recipe) -> str:
    """A recipe as TOML; JSON's values of these kinds are TOML's."""

    def lines(prefix: str, fields: dict[str, Any]) -> list[str]:
        plain = {name: value for name, value in fields.items() if value is not None and not isinstance(value, dict)}
        inner = {name: value for name, value in fields.items() if isinstance(value, dict)}
        own = [f"[{prefix}]"] if prefix else []
        own += [f"{name} = {json.dumps(value)}" for name, value in plain.items()]
        for name, value in inner.items():
            own += lines(f"{prefix}.{name}".strip("."), value)
        return own

    return "\n".join(lines("", recipe.model_dump(mode="json")))


def norms(encoder: Encoder) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in encoder.state_dict().items() if "running" in name}


def test_batch_statistics_are_the_mean_of_what_each_draw_makes_of_them() -> None:
    spec = ImageInput(height=16, width=16, channels=1)
    encoder = build_encoder(EncoderSpec(name="conv4", options={"channels": 4}), spec).train()
    draws = [torch.rand(6, 1, 16, 16) * size for size in (1.0, 5.0, 2.0)]
    start, alone = encoder.state_dict(), []
    start = {name: tensor.clone() for name, tensor in start.items()}
    for x in draws:
        encoder.load_state_dict(start)
        encoder(x)
        alone.append(norms(encoder))
    encoder.load_state_dict(start)
    statistics = BatchStatistics(encoder)
    total = torch.zeros(())
    for x in draws:
        total = total + encoder(x).square().mean()
        statistics.collect()
    statistics.settle(len(draws), ALONE)
    total.backward()
    for name, tensor in norms(encoder).items():
        mean = torch.stack([each[name] for each in alone]).mean(0)
        torch.testing.assert_close(tensor, mean, msg=name)
        assert not tensor.equal(start[name])


def test_every_task_is_computed_by_one_process() -> None:
    shares = [World(rank, 3).mine(8) for rank in range(3)]
    assert sorted(np.concatenate([list(share) for share in shares])) == list(range(8))
