"""Joint training: its gradients, its report, stopping and continuing, and serving new targets from its checkpoint."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kshot.checkpoints import Checkpoint, load_checkpoint
from kshot.contracts.errors import Invalid
from kshot.contracts.recipe import Recipe
from kshot.contracts.tasks import LearnerOptions
from kshot.encoders.registry import build_encoder
from kshot.episodes.tables import Target
from kshot.learners.base import Column, Support
from kshot.learners.registry import get_learner
from kshot.relations.affinity import affinity, auxiliary_weights
from kshot.training.__main__ import main
from kshot.training.loop import Unfinished, meta_train
from kshot.training.multitask import first_heads, joint_loss, trained_answers
from kshot.training.report import joint_figures, joint_report
from kshot.training.tables import training_table
from kshot.training.weighting import conflict_weights
from tests.kshot.data_folder import data_folder

ASSAYS = ("first", "second", "third")


@pytest.fixture(scope="module")
def molecules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 made-up molecules in Tox21's format: the third assay is against the first, a third of the labels missing."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("data")
    bits = np.zeros((300, 1024), np.uint8)
    bits[:, :20] = rng.integers(0, 2, (300, 20))
    active = np.stack([bits[:, 0] | bits[:, 1], bits[:, 2], 1 - (bits[:, 0] | bits[:, 1])], 1).astype(np.int8)
    active[rng.random(active.shape) < 1 / 3] = -1
    (folder / "tox21").mkdir()
    np.savez(
        folder / "tox21" / "tox21_ecfp1024.npz", fingerprints=np.packbits(bits, axis=1), labels=active, tasks=ASSAYS
    )
    return folder


def recipe(levels: Any = ((8,),), dropout: float = 0.0, targets: tuple[str, ...] = (), **training: Any) -> Recipe:
    settings = {"scheme": "multitask", "steps": 60, "meta_batch": 64, "lr": 1e-2}
    return Recipe.model_validate(
        {
            "name": "small-joint",
            "description": "for tests",
            "tasks": ["multitask"],
            "input": {"modality": "vector", "width": 1024},
            "encoder": {"name": "hierarchy", "options": {"levels": levels, "dropout": dropout}},
            "learner": {"name": "multitask", "options": {"levels": {"second": 0}}},
            "data": {"name": "tox21", "targets": targets},
            "training": settings | training,
        }
    )


def trained(own: Recipe, data: Path, out: Path, minutes: float | None = None) -> Checkpoint:
    return meta_train(own, data, out, "the command", lambda line: None, minutes)


def started(own: Recipe, data: Path, seed: int = 0) -> tuple[Any, dict[str, torch.Tensor], Any]:
    """Encoder, heads and table as training starts with them; every row is in every batch."""
    torch.manual_seed(seed)
    table = training_table(own, data)
    assert table is not None
    encoder = build_encoder(own.encoder, own.input)
    return encoder, first_heads(own, encoder, table, torch.Generator().manual_seed(0)), table


@pytest.mark.parametrize("weighting", ["equal", "pcgrad", "upgrad"])
def test_the_step_is_what_the_weighting_says(molecules: Path, weighting: str) -> None:
    """Shared layers: the tasks' gradients by their weights. Heads: each its own loss over T, whatever the weighting.

    Of two tasks, whose order cannot matter to PCGrad, from some start where they are in conflict.
    """
    own = recipe(weighting=weighting, meta_batch=1000, targets=ASSAYS[:2])
    for seed in range(20):
        encoder, head, table = started(own, molecules, seed)
        z, y = encoder.embed(table.inputs, torch.device("cpu")), torch.as_tensor(table.values)
        losses, shared = [], list(encoder.parameters())
        for i, name in enumerate(ASSAYS[:2]):
            rows = ~y[:, i].isnan()
            logits = z[rows] @ head[f"trained.{name}.weight"].T + head[f"trained.{name}.bias"]
            losses.append(torch.nn.functional.cross_entropy(logits, y[rows, i].long()))
        gradients = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses]
        jacobian = torch.stack([torch.cat([g.flatten() for g in own_gradients]) for own_gradients in gradients])
        if float(jacobian[0] @ jacobian[1]) < 0:
            break
    else:
        raise AssertionError("no start in conflict")
    joint_loss(own, encoder, head, table)(np.random.default_rng(0), 0.0).backward()
    weights = conflict_weights(weighting, jacobian @ jacobian.T)  # type: ignore[arg-type]
    assert (weighting == "equal") == bool((weights == 0.5).all())
    step = torch.cat([p.grad.flatten() for p in shared if p.grad is not None])
    torch.testing.assert_close(step, weights @ jacobian, rtol=1e-3, atol=1e-6)
    for loss, name in zip(losses, ASSAYS, strict=False):
        weight = head[f"trained.{name}.weight"]
        expected = torch.autograd.grad(loss, weight, retain_graph=True)[0] / 2
        torch.testing.assert_close(weight.grad, expected, rtol=1e-3, atol=1e-6)


def test_affinities_are_measured_without_dropout(molecules: Path) -> None:
    """The weighting by affinity: measured on the batch as it stands, summed up, and made the weights of the step."""
    own = recipe(weighting="affinity", meta_batch=1000, dropout=0.5)
    encoder, head, table = started(own, molecules)
    y, shared = torch.as_tensor(table.values), list(encoder.parameters())
    encoder.eval()

    def losses() -> torch.Tensor:
        z = encoder.embed(table.inputs, torch.device("cpu"))
        found = []
        for i, name in enumerate(ASSAYS):
            rows = ~y[:, i].isnan()
            logits = z[rows] @ head[f"trained.{name}.weight"].T + head[f"trained.{name}.bias"]
            found.append(torch.nn.functional.cross_entropy(logits, y[rows, i].long()))
        return torch.stack(found)

    expected = affinity(losses, shared, own.training.lr)
    encoder.train()
    step = joint_loss(own, encoder, head, table)
    step(np.random.default_rng(0), 0.0).backward()
    assert encoder.training
    torch.testing.assert_close(head["affinity_sum"], expected, rtol=1e-3, atol=1e-5)
    step(np.random.default_rng(0), 1 / own.training.steps)
    torch.testing.assert_close(head["affinity_sum"], expected, rtol=1e-3, atol=1e-5)  # not at every step

    encoder.eval()
    encoder.zero_grad()
    step(np.random.default_rng(0), 1 / own.training.steps).backward()
    weighted = auxiliary_weights(head["affinity_sum"]) @ losses()
    for parameter, gradient in zip(shared, torch.autograd.grad(weighted, shared), strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)


def test_a_low_level_target_moves_no_deep_layer(molecules: Path) -> None:
    own = recipe(levels=((8,), (4,)), targets=("second",))
    encoder, head, table = started(own, molecules)
    assert head["trained.second.weight"].shape == (2, 8)
    joint_loss(own, encoder, head, table)(np.random.default_rng(0), 0.0).backward()
    low, deep = (level[0].weight.grad for level in encoder.levels)
    assert low.abs().sum() > 0
    assert deep is None or not deep.any()


@pytest.mark.parametrize("weighting", ["equal", "uncertainty", "affinity", "pcgrad", "upgrad"])
def test_every_weighting_learns_and_reports(molecules: Path, tmp_path: Path, weighting: str) -> None:
    own = recipe(weighting=weighting)
    checkpoint = trained(own, molecules, tmp_path / "a")
    report = joint_report(load_checkpoint(tmp_path / "a"), own, molecules)
    assert report["targets"] == list(ASSAYS)
    assert set(report["figures"]) == {"valid", "test"}
    assert all(report["figures"]["test"][name]["roc_auc"] > 0.85 for name in ASSAYS)
    cosines = np.array(report["gradient_cosines"])
    np.testing.assert_allclose(cosines, cosines.T, atol=1e-3)
    np.testing.assert_allclose(cosines.diagonal(), 1, atol=1e-3)
    assert cosines[0, 2] > cosines[0, 1] + 0.1  # the third is the first turned round: they want the same features
    assert report["batches"] == (60 if weighting in {"pcgrad", "upgrad"} else 6)
    if weighting == "uncertainty":
        assert bool((checkpoint.head["log_variances"] != -0.5).all())


@pytest.mark.parametrize("weighting", ["uncertainty", "pcgrad"])
def test_it_stops_and_goes_on_as_if_it_had_not(molecules: Path, tmp_path: Path, weighting: str) -> None:
    own = recipe(weighting=weighting, steps=5, dropout=0.2, weight_decay=0.1)
    straight = trained(own, molecules, tmp_path / "straight")
    sittings = 0
    while True:
        try:
            torch.manual_seed(1000 + sittings)  # whatever went on in between
            resumed = trained(own, molecules, tmp_path / "resumed", minutes=0.0)
            break
        except Unfinished:
            sittings += 1
    assert sittings == 4
    assert set(resumed.head) == set(straight.head)
    assert all(torch.equal(tensor, straight.head[name]) for name, tensor in resumed.head.items())
    weights = straight.encoder.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in resumed.encoder.state_dict().items())


def test_the_checkpoint_serves_a_target_it_never_saw(molecules: Path, tmp_path: Path) -> None:
    """Trained on two assays, adapted to the third and a number at once, from 20 rows that lack some of both."""
    checkpoint = trained(recipe(targets=("first", "second")), molecules, tmp_path / "a")
    table = training_table(recipe(), molecules)
    assert table is not None
    third = torch.as_tensor(table.values[:, 2])
    number = torch.as_tensor(table.inputs[:, 2] * 10 + 3)
    columns = (Column("classification", 2), Column("regression"))
    targets = torch.stack([third, number.where(torch.arange(len(number)) % 2 == 0, torch.nan)], 1)
    support = Support("multitask", table.inputs[:20], targets[:20], columns=columns)
    learner = get_learner("multitask")
    state = learner.adapt(checkpoint, [support], LearnerOptions())[0]
    output = learner.predict(checkpoint, [state], [table.inputs[20:]])[0]
    there = ~third[20:].isnan()
    assert output.columns[0].logits is not None and output.columns[1].values is not None
    right = output.columns[0].logits[there].argmax(1) == third[20:][there]
    assert float(right.float().mean()) > 0.85
    missed = (output.columns[1].values[:, 0] - number[20:]).square().mean() / number.var()
    assert float(missed) < 0.5


def test_only_trained_heads_answer(molecules: Path, tmp_path: Path) -> None:
    checkpoint = trained(recipe(targets=("first",), steps=2), molecules, tmp_path / "a")
    x = np.zeros((3, 1024), np.float32)
    assert trained_answers(checkpoint, (Target("first", "classification", 2),), x)["first"].shape == (3, 2)
    with pytest.raises(Invalid, match="no trained head for third"):
        trained_answers(checkpoint, (Target("third", "classification", 2),), x)


def test_the_command_writes_the_report(molecules: Path, tmp_path: Path) -> None:
    text = 'name = "a"\ndescription = ""\ntasks = ["multitask"]\ninput = { modality = "vector", width = 1024 }\n'
    text += 'encoder = { name = "hierarchy" }\nlearner = { name = "multitask" }\ndata = { name = "tox21" }\n'
    (tmp_path / "recipe.toml").write_text(text + 'training = { scheme = "multitask", steps = 3, meta_batch = 50 }\n')
    main([str(tmp_path / "recipe.toml"), "--data", str(molecules), "--out", str(tmp_path / "out")])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["weighting"] == "equal"
    lineage = load_checkpoint(tmp_path / "out").manifest.lineage
    assert (lineage.steps, lineage.data[0].name) == (3, "tox21")
    assert "equal fingerprints together" in lineage.data[0].split


# --- the real table of patients ---


def patients(name: str, width: int, scheme: str, **fields: Any) -> Recipe:
    settings = {"scheme": scheme, "steps": 80, "lr": 5e-3, **fields}
    encoder = {"name": "hierarchy", "options": {"levels": [[32]], "standardised": True}}
    return Recipe.model_validate(
        recipe().model_dump()
        | {"input": {"modality": "vector", "width": width}, "encoder": encoder, "data": {"name": name}}
        | {"training": settings, "learner": {"name": "multitask"}, "n_targets": 2}
        | {"tasks": ["multitask"] if scheme == "multitask" else ["regression"]}
    )


def test_a_class_and_two_numbers_train_together(tmp_path: Path) -> None:
    """What is asked is that all three heads learn their rows; seven held-out patients are too few to ask for more."""
    data = data_folder("parkinsons/parkinsons_updrs.csv")
    own = patients("parkinsons-sex", 18, "multitask", meta_batch=256)
    table = training_table(own, data)
    assert table is not None
    untrained, checkpoint = (
        trained(
            own.model_copy(update={"training": own.training.model_copy(update={"steps": n})}), data, tmp_path / str(n)
        )
        for n in (0, 80)
    )
    before, after = (trained_answers(c, table.targets, table.inputs) for c in (untrained, checkpoint))
    for place, name in ((1, "motor_UPDRS"), (2, "total_UPDRS")):
        truth = torch.as_tensor(table.values[:, [place]])
        missed = [float((answers[name] - truth).square().mean() / truth.var()) for answers in (before, after)]
        assert missed[1] < 0.8 < missed[0]
    sex = joint_figures(checkpoint, table)["sex"]["roc_auc"]
    assert sex is not None and sex > 0.8


def test_patients_are_tasks_to_meta_train_on(tmp_path: Path) -> None:
    data = data_folder("parkinsons/parkinsons_updrs.csv")
    own = patients("parkinsons", 19, "episodes", meta_batch=4, k_shot=(10, 10), n_query=20)
    losses: list[float] = []
    meta_train(own, data, tmp_path / "a", "", lambda line: losses.append(float(line.split("loss ")[1].split()[0])))
    assert np.mean(losses[-20:]) < 0.7 * np.mean(losses[:20])
    checkpoint = load_checkpoint(tmp_path / "a")
    assert set(checkpoint.head) == {"log_l2"}
    assert checkpoint.encoder.state_dict()["spread"].ne(1).any()
