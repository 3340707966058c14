"""The command line against a service with keys: the main paths as a process of its own, refusals in this one."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from kshot.cli.app import app
from tests.flow.conftest import HttpStack
from tests.flow.http_stack import CHECKOUT, drawing_file, free_port

pytestmark = pytest.mark.flow
Shell = Callable[..., "subprocess.CompletedProcess[str]"]
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def environ(http_stack: HttpStack) -> dict[str, str]:
    """Where the service is, with an administrator's key of a tenant of these tests."""
    return {"KSHOT_URL": http_stack.api.url, "KSHOT_KEY": http_stack.key("cli", role="admin")["key"]}


@pytest.fixture
def shell(environ: dict[str, str], tmp_path: Path) -> Shell:
    """`kshot` in a folder of the test, as a process."""

    def run(*arguments: str, stdin: str = "", **more: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "kshot.cli", *arguments]
        settings = {**os.environ, "PYTHONPATH": str(CHECKOUT), **environ, **more}
        return subprocess.run(command, cwd=tmp_path, env=settings, input=stdin, capture_output=True, text=True)

    return run


@pytest.fixture
def run(environ: dict[str, str]) -> Run:
    """`kshot` in this process, which is quicker."""
    return lambda *arguments, **more: CliRunner().invoke(app, [str(one) for one in arguments], env={**environ, **more})


def good(done: "subprocess.CompletedProcess[str]") -> "subprocess.CompletedProcess[str]":
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def vectors(file: Path, rows: int = 8, seed: int = 0) -> Path:
    """Two far-apart classes of four numbers as CSV, labels in ``side``."""
    rng = np.random.default_rng(seed)
    lines = ["a,b,c,d,side"]
    for i in range(rows):
        point = rng.normal(size=4) + (5 if i % 2 else -5)
        lines.append(",".join(f"{value:.4f}" for value in point) + (",right" if i % 2 else ",left"))
    file.write_text("\n".join(lines) + "\n")
    return file


def drawings(folder: Path) -> Path:
    for i in range(6):
        file = folder / ("cat" if i % 2 else "dog") / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(drawing_file(i))
    return folder


def test_a_csv_is_learned_from_and_asked_with_the_accuracy_printed(shell: Shell, tmp_path: Path):
    vectors(tmp_path / "taught.csv", rows=20)
    vectors(tmp_path / "asked.csv", seed=1)
    adapted = good(shell("adapt", "taught.csv", "--checkpoint", "plain", "--label-column", "side", "--shots", "4"))
    facts = dict(line.split(maxsplit=1) for line in adapted.stdout.splitlines() if " " in line)
    assert facts["learned"] == "2 classes from 8 examples (4 each)"
    assert "100.0% of its 8 examples right" in facts["quality"] and "too few examples" in facts["quality"]
    assert "100.0% right of 12 (95% interval 75.7% to 100.0%)" in adapted.stdout
    assert "20 rows; vectors of 4 columns; label column: side (2 classes)" in adapted.stderr
    assert f"kshot predict {facts['model']} SOURCE" in adapted.stderr

    told = good(shell("predict", facts["model"], "asked.csv", "--label-column", "side", "--output", "csv"))
    rows = list(csv.DictReader(io.StringIO(told.stdout)))
    assert [row["label"] for row in rows] == [row["truth"] for row in rows] == ["left", "right"] * 4
    assert "100.0% right of 8 (95% interval 67.6% to 100.0%)" in told.stderr
    shown = good(shell("predict", facts["model"], "asked.csv", "--label-column", "side"))
    assert "row 1  left" in shown.stdout and "100.0% right of 8" in shown.stdout and "\x1b" not in shown.stdout


def test_texts_come_as_arguments_or_lines_and_go_as_json(shell: Shell, tmp_path: Path):
    said = ["where is my card,card", "card is late,card", "refund me,money", "pay me,money"]
    (tmp_path / "said.csv").write_text("\n".join(["text,intent", *said]))
    model = json.loads(good(shell("adapt", "said.csv", "--checkpoint", "words", "--json")).stdout)
    assert (model["object"], model["held_out"], model["classes"]) == ("adapted_model", None, ["card", "money"])
    told = json.loads(good(shell("predict", model["id"], "card is late", "pay me", "-o", "json")).stdout)
    assert [row["input"] for row in told["predictions"]] == ["card is late", "pay me"]
    assert [row["label"] for row in told["predictions"]] == ["card", "money"] and told["score"] is None
    piped = good(shell("predict", model["id"], "-o", "csv", "--reject-below", "1", stdin="card is late\n\npay me\n"))
    assert [row["input"] for row in csv.DictReader(io.StringIO(piped.stdout))] == ["card is late", "pay me"]


def test_class_folders_and_npz_archives_go_the_same_way(shell: Shell, tmp_path: Path):
    drawings(tmp_path / "drawn")
    adapted = good(shell("adapt", "drawn", "--checkpoint", "drawings", "--json"))
    model = json.loads(adapted.stdout)["id"]
    assert "6 pictures in 2 class folders" in adapted.stderr
    told = json.loads(good(shell("predict", model, "drawn", "-o", "json")).stdout)
    assert [row["truth"] for row in told["predictions"]] == ["cat"] * 3 + ["dog"] * 3
    assert told["score"]["n"] == 6 and len(told["score"]["interval"]) == 2
    one = good(shell("predict", model, "drawn/cat/1.png", "drawn/dog/0.png", "-o", "csv")).stdout.splitlines()
    assert one[0] == "input,label,probability" and one[1].startswith("drawn/cat/1.png,cat,")

    x = np.linspace(-1, 1, 24)[:, None]
    np.savez(tmp_path / "line.npz", inputs=x, labels=2.5 * x[:, 0] + 0.25)
    figures = json.loads(good(shell("adapt", "line.npz", "--checkpoint", "plain", "--holdout", "0.5", "--json")).stdout)
    assert figures["task"] == "regression" and figures["held_out"]["n"] == 12 and figures["held_out"]["r2"] > 0.9


def test_more_than_one_request_carries_is_sent_as_several(http_stack: HttpStack, shell: Shell, tmp_path: Path):
    limits = http_stack.client().get("/v1/limits").json()
    model = json.loads(good(shell("adapt", str(vectors(tmp_path / "a.csv")), "--label-column", "side",
                                  "--checkpoint", "plain", "--json")).stdout)["id"]  # fmt: skip
    many = limits["max_query"] + 7
    np.savez(tmp_path / "many.npz", inputs=np.full((many, 4), 5.0), labels=np.full(many, "right"))
    told = good(shell("predict", model, "many.npz", "-o", "csv"))
    assert len(told.stdout.splitlines()) == many + 1
    assert f"100.0% right of {many}" in told.stderr


def test_keys_are_made_used_and_revoked_and_status_tells(shell: Shell, environ: dict[str, str]):
    made = good(shell("keys", "create", "reporting", "--tenant", "cli-reports", "--days", "2"))
    secret, own = made.stdout.strip(), made.stderr.split()[0]
    assert secret.startswith("ksk_") and secret not in made.stderr
    assert own in good(shell("keys", "list")).stdout and secret not in shell("keys", "list").stdout
    well = good(shell("status", KSHOT_KEY=secret))
    assert "ready" in well.stdout and "accepted" in well.stdout and "plain" in well.stdout
    refused = shell("jobs", "list", KSHOT_KEY=secret)
    assert refused.returncode == 1 and "try: set KSHOT_KEY to a key with the role admin" in refused.stderr
    rotated = good(shell("keys", "rotate", own, "--grace-hours", "1"))
    assert rotated.stdout.strip().startswith("ksk_") and rotated.stdout.strip() != secret
    good(shell("keys", "revoke", own))
    assert "revoked" in good(shell("keys", "list")).stdout
    gone = shell("status", "--json", KSHOT_KEY=secret)
    assert gone.returncode == 1 and json.loads(gone.stdout)["key_accepted"] is False
    typed = shell("--key", environ["KSHOT_KEY"], "checkpoints", "list", "--url", environ["KSHOT_URL"], KSHOT_KEY="")
    assert typed.returncode == 0 and "warning: others on this machine see a key" in typed.stderr


def test_tenants_are_listed_bounded_and_their_changes_read(run: Run):
    assert run("keys", "create", "bounded", "--tenant", "cli-bounded").exit_code == 0
    told = run("tenants", "quotas", "cli-bounded", "--adapted-models", "7")
    assert told.exit_code == 0 and "0 of 7" in told.stdout and "of any number" in told.stdout
    assert "0 of 7" in run("tenants", "show", "cli-bounded").stdout
    listed = json.loads(run("tenants", "list", "--json").stdout)
    (own,) = (one["own_quotas"] for one in listed if one["name"] == "cli-bounded")
    assert own["adapted_models"] == 7 and own["open_jobs"] is None
    assert "requests_per_minute" in run("usage").stdout
    changes = run("audit", "--action", "quotas.set", "--limit", "1", "--json").stdout
    (change,) = json.loads(changes)
    assert change["subject"].startswith("ten_")
    one = ["audit", "--json", "--action", "quotas.set", "--request-id", change["request_id"]]
    assert json.loads(run(*one, "--since", change["at"]).stdout) == [change]
    assert json.loads(run(*one, "--until", change["at"]).stdout) == []
    assert run("audit", "--since", "yesterday").exit_code == 2


def test_data_sets_are_uploaded_shown_and_deleted(run: Run, tmp_path: Path):
    file = tmp_path / "Some Vectors.csv"
    rng = np.random.default_rng(0)
    rows = [f"{x:.3f},{y:.3f},{'abcdef'[i % 6]}" for i, (x, y) in enumerate(rng.normal(size=(30, 2)))]
    file.write_text("\n".join(["x,y,kind", *rows]))
    made = run("datasets", "upload", file, "--label-column", "kind", "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["name"] == "some-vectors" and json.loads(made.stdout)["n_examples"] == 30
    assert "some-vectors" in run("datasets", "list").stdout
    assert "10 examples of 2 classes" in run("datasets", "show", "some-vectors").stdout
    drawn = run("datasets", "upload", drawings(tmp_path / "drawn"), "--name", "cli-drawings")
    assert drawn.exit_code == 0 and "image_zip" in drawn.stdout, drawn.output
    again = run("datasets", "upload", file, "--label-column", "kind")
    assert again.exit_code == 1 and "name" in lines(again)[0]
    assert run("datasets", "delete", "cli-drawings").exit_code == 0
    assert run("datasets", "delete", "some-vectors").exit_code == 0
    assert run("datasets", "show", "some-vectors").exit_code == 1


def test_checkpoints_are_listed_shown_and_rolled_back_only_where_there_is_a_before(run: Run):
    assert "vectors of width 4" in run("checkpoints", "list").stdout
    shown = run("checkpoints", "show", "drawings")
    assert "grey pictures, seen at 28 x 28" in shown.stdout and "drawings@production" in shown.stdout
    assert "publish" in run("checkpoints", "history", "drawings").stdout
    own = json.loads(run("checkpoints", "show", "drawings", "--json").stdout)["id"]
    moved = run("promote", "drawings@tried", own, "--json")
    assert moved.exit_code == 0 and json.loads(moved.stdout)["checkpoint"] == own
    refused = run("rollback", "drawings@tried")
    assert refused.exit_code == 1 and "nothing to roll back to" in refused.stderr


def lines(result: Result) -> list[str]:
    """What a refusal said: never a traceback, never more than what is wrong and what to do."""
    said = [line for line in result.stderr.splitlines() if line and not line[0].isdigit()]  # a count comes first
    assert "Traceback" not in result.output and 1 <= len(said) <= 2, result.output
    return said


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["adapt", "{csv}", "--checkpoint", "plian", "--label-column", "side"], 1, "did you mean plain"),
        (["adapt", "{csv}", "--checkpoint", "plain"], 2, "say --label-column NAME"),
        (["adapt", "{csv}", "--checkpoint", "plain", "--label-column", "sid"], 2, "--label-column may be one of a, b"),
        (["adapt", "{csv}", "--checkpoint", "words", "--label-column", "side"], 2, "say --text-column NAME"),
        (["adapt", "{csv}", "--checkpoint", "drawings", "--label-column", "side"], 2, "checkpoint takes pictures"),
        (["adapt", "{csv}", "--checkpoint", "lines", "--label-column", "side"], 1, "only predicts numbers"),
        (["adapt", "{empty}", "--checkpoint", "drawings"], 2, "expected one folder per class"),
        (["adapt", "{broken}", "--checkpoint", "drawings"], 1, "cat/1.png: the image is damaged or truncated"),
        (["adapt", "{fake}", "--checkpoint", "drawings"], 2, "1.png is no PNG or JPEG, whatever its name says"),
        (["adapt", "{csv}", "--label-column", "side", "--holdout", "0.01"], 2, "raise --holdout"),
        (["adapt", "nowhere"], 2, "there is no file or folder nowhere"),
        (["predict", "am_none", "hello"], 1, "make one: kshot adapt SOURCE"),
        (["jobs", "show", "job_none"], 1, "kshot jobs list"),
        (["jobs", "events", "job_none", "--follow"], 1, "kshot jobs list"),
        (["train", "no-such-set"], 1, "kshot datasets list"),
        (["train", "no-such-file.csv"], 2, "there is no file or folder no-such-file.csv"),
        (["checkpoints", "history", "nothing"], 1, "kshot checkpoints list"),
        (["promote", "drawings", "words"], 1, "this is a checkpoint of words, not of drawings"),
        (["keys", "revoke", "key_none"], 1, "kshot keys list"),
        (["tenants", "show", "nobody"], 1, "kshot tenants list"),
        (["status", "--url", "localhost"], 2, "begins with http:// or https://"),
    ],
)  # fmt: skip
def test_refusals_say_what_to_do(run: Run, tmp_path: Path, arguments: list[str], code: int, told: str):
    sources = {
        "csv": vectors(tmp_path / "rows.csv"),
        "empty": tmp_path / "empty",
        "broken": drawings(tmp_path / "broken"),
    }
    sources["empty"].mkdir()
    torn = tmp_path / "broken" / "cat" / "1.png"
    torn.write_bytes(torn.read_bytes()[:80])
    fake = drawings(tmp_path / "fake") / "cat" / "1.png"
    fake.write_text("no picture")
    result = run(*(one.format(**sources, fake=tmp_path / "fake") for one in arguments))
    assert result.exit_code == code, result.output
    assert told in " ".join(lines(result))


def test_keys_that_are_missing_or_wrong_and_services_that_are_away(run: Run):
    for key in ("", "ksk_wrong"):
        refused = run("checkpoints", "list", KSHOT_KEY=key)
        assert refused.exit_code == 1 and "kshot keys create NAME" in lines(refused)[1]
        assert run("status", KSHOT_KEY=key).exit_code == 1
    away = run("status", KSHOT_URL=f"http://127.0.0.1:{free_port()}")
    assert away.exit_code == 3 and "make serve" in lines(away)[1]


def test_every_command_has_help_with_an_example(run: Run):
    shown: list[Any] = [[]]
    for group in ("jobs", "datasets", "checkpoints", "keys", "tenants"):
        shown += [[group, command.name or command.callback.__name__] for command in _commands(group)]
    shown += [[command] for command in ("adapt", "predict", "train", "promote", "rollback", "status", "usage", "audit")]
    for words in shown:
        told = run(*words, "--help")
        assert told.exit_code == 0 and "Example: kshot" in told.stdout, words


def test_the_shell_completes_commands(shell: Shell):
    told = shell(_KSHOT_COMPLETE="complete_bash", COMP_WORDS="kshot dat", COMP_CWORD="1")
    assert told.stdout.split() == ["datasets"]


def _commands(group: str) -> list[Any]:
    (found,) = [one for one in app.registered_groups if one.name == group]
    assert found.typer_instance is not None
    return list(found.typer_instance.registered_commands)
