"""The serving and scaling benchmarks in their short form: real servers, counts and pages, no times."""

import json
import uuid
from pathlib import Path

import numpy as np
import pytest
import uvloop
from safetensors.numpy import load as load_tensors

from benchmarks.scaling import pages as scaling_pages
from benchmarks.scaling import suite as scaling
from benchmarks.serving import pages, suite
from benchmarks.serving.claims import CLAIMS, judge
from benchmarks.serving.connection import connect
from benchmarks.serving.flames import flame_svg, own_shares, package_shares, read_stacks
from benchmarks.serving.measuring import Load, closed_loop, open_loop
from benchmarks.serving.probes import KSHOT, NOTHING, PEERS_MISSING, PROBES, TUNED, WRITTEN, Probe
from benchmarks.serving.profile_page import write_page
from benchmarks.serving.references.running import Reference, running
from benchmarks.serving.workloads import adapt_glyphs, adapt_json, adapt_tensors, predict_json

KEY = "k" * 64


def body_of(request: bytes) -> bytes:
    head, body = request.split(b"\r\n\r\n", 1)
    assert f"Content-Length: {len(body)}".encode() in head
    return body


def load_of(rate: float, p50: float) -> Load:
    return Load(1.0, int(rate), {}, p50, p50, p50)


def test_every_row_of_every_request_is_new() -> None:
    as_json = [json.loads(body_of(adapt_json()(number))) for number in (3, 35)]  # the same template
    as_tensors = [load_tensors(body_of(adapt_tensors()(number))) for number in (3, 35)]
    rows = [np.array(body["support"]["inputs"]) for body in as_json], [body["support.inputs"] for body in as_tensors]
    for first, second in rows:
        assert first.shape == (25, 384)
        assert (first[:, 0] != second[:, 0]).all() and (first[:, 1:] == second[:, 1:]).all()
    pictures = [json.loads(body_of(adapt_glyphs(pool=40, queries=2)(number))) for number in (0, 1)]
    assert [len(body["query"]["inputs"]) for body in pictures] == [10, 10]
    assert pictures[0]["support"] != pictures[1]["support"]


def test_loops_count_answers_and_failures_of_a_real_server() -> None:
    requests = predict_json("am_1", width=4)
    with running(Reference("nothing")) as url:
        closed = uvloop.run(closed_loop(url, requests, 2, 0.3, 0.1))
        opened = uvloop.run(open_loop(url, requests, 100, 0.3, 0.1))
        wrong = uvloop.run(closed_loop(url, predict_json("am_1", path="/elsewhere"), 1, 0.2, 0.1))
    assert closed.answered > 0 and not closed.failed and closed.p50 <= closed.p95 <= closed.p99
    assert opened.answered > 0 and not opened.failed
    assert wrong.answered == 0 and set(wrong.failed) == {404}
    assert "client" in closed.cpu_ms


def test_a_stretch_lasts_until_something_is_answered() -> None:
    requests = predict_json("am_1", width=4)
    with running(Reference("nothing")) as url:
        closed = uvloop.run(closed_loop(url, requests, 2, 1e-6, 0))
        opened = uvloop.run(open_loop(url, requests, 1000, 1e-6, 0))
    assert closed.answered >= 1 and opened.answered >= 1
    assert closed.p50 <= closed.seconds * 1000, "an answer that comes late makes the stretch longer"


def test_the_reference_of_scikit_learn_answers_both_forms() -> None:
    async def ask(url: str) -> list[bytes]:
        connection = await connect(url)
        answers = [await connection.ask(request(1)) for request in (adapt_json(), adapt_tensors("/adapt-tensors"))]
        connection.close()
        assert [answer.status for answer in answers] == [201, 201]
        return [answer.body for answer in answers]

    with running(Reference("logistic", threads=1)) as url:
        for body in uvloop.run(ask(url)):
            (prediction,) = json.loads(body)["predictions"]
            assert prediction["label"] == 0 and sum(prediction["probabilities"].values()) == pytest.approx(1)


def test_claims_name_probes_and_sides_that_are_measured() -> None:
    asked = {probe.name: probe.sides for probe in PROBES}
    for claim in CLAIMS:
        assert KSHOT in asked[claim.probe] and claim.against in asked[claim.reference_probe or claim.probe]


def test_the_furthest_from_its_target_comes_first() -> None:
    loads = {
        ("adapt, JSON, 64 callers", KSHOT): [load_of(400, 9), load_of(500, 9), load_of(450, 9)],
        ("adapt, JSON, 64 callers", WRITTEN): [load_of(100, 9)] * 3,
        ("adapt, JSON, 64 callers", TUNED): [load_of(200, 9)] * 3,
    }
    tuned, written = judge(loads)
    assert (tuned.claim.against, tuned.ratio, tuned.met) == (TUNED, 2.25, False)
    assert (written.low, written.ratio, written.high, written.met) == (4.0, 4.5, 5.0, True)


@pytest.mark.flow
def test_serving_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    probes = [Probe("predict, 1 caller", "predict", (KSHOT, NOTHING)), Probe("mixed", "mixed", (KSHOT,), rate=5)]
    plan = suite.Plan(tmp_path, None, rounds=1, seconds=0.5, probes=probes, support=2)
    assert not suite.run(suite.Plan(tmp_path, None, deadline=0, probes=probes), KEY)
    assert suite.run(plan, KEY)
    points = suite.Points(tmp_path)
    loads = points.loads()
    assert set(loads) == {("predict, 1 caller", KSHOT), ("predict, 1 caller", NOTHING), ("mixed", KSHOT)}
    for (load,) in loads.values():
        assert load.answered > 0 and not load.failed
    (grown,) = points.growths()
    assert grown.support == 2
    before = (tmp_path / "points.jsonl").read_bytes()
    assert suite.run(plan, KEY) and (tmp_path / "points.jsonl").read_bytes() == before
    pages.write(tmp_path / "out" / "serving", loads, points.growths(), PEERS_MISSING)
    page = (tmp_path / "out" / "serving.md").read_text()
    assert "predict p50, 1 caller" in page and PEERS_MISSING in page and (tmp_path / "out" / "serving.png").is_file()


@pytest.mark.flow
def test_scaling_measures_each_part_once(tmp_path: Path) -> None:
    plan = scaling.Plan(tmp_path / "work", 0.5, 20, workers=[1], tasks=[1, 2], models=[1, 3], supports=[5, 10])
    assert not scaling.run(scaling.Plan(tmp_path / "work", deadline=0), KEY)
    for part in ("glyphs-maml, 1", "tasks", "supports", "cost, predict", "making", "models"):
        assert scaling.run(plan, KEY, part), part
    parts = {name: scaling.part_rows(plan.work, name) for name in scaling.names(plan)}
    assert [row["tasks"] for row in parts["tasks"] or []] == [1, 2, 1, 2]
    assert [row["rows"] for row in parts["supports"] or []] == [5, 10]
    assert [row["models"] for row in parts["models"] or []] == [1, 3]
    assert (parts["making"] or [])[0]["made"] == 3
    for row in [*(parts["workers, glyphs-maml, 1"] or []), *(parts["supports"] or [])]:
        assert row["load"]["answered"] > 0 and not row["load"]["failed"]
    assert parts["workers, vectors-adapt-binary, 1"] is None
    scaling_pages.write(tmp_path / "out" / "scaling", plan)
    page = (tmp_path / "out" / "scaling.md").read_text()
    assert "first bottleneck" in page and (tmp_path / "out" / "scaling.png").is_file()


def test_flame_graph_of_raw_stacks() -> None:
    name = f"deep_{uuid.uuid4().hex}"
    outer, inner = "main (service/__main__.py:1)", f"{name} (kshot/inputs/vectors.py:9)"
    stacks = read_stacks(f"{outer};{inner};loads (json/decoder.py:3) 3\n{outer};run (uvicorn/server.py:2) 1\n")
    assert own_shares(stacks) == [(inner, 0.75), (outer, 0.25)]
    assert package_shares(stacks) == [("json", 0.75), ("uvicorn", 0.25)]
    picture = flame_svg("title <1>", stacks)
    assert "title &lt;1&gt;" in picture and f"{inner} 75.0%" in picture


def test_the_page_of_the_profiles(tmp_path: Path) -> None:
    said = {
        "load": "9/s",
        "packages": [("json", 0.75), ("rare", 0.001)],
        "functions": [("parse (service/x.py:1)", 0.5)],
    }
    about = {"commit": "abc", "date": "today", "machine": "small"}
    (tmp_path / "after.json").write_text(json.dumps({"about": about, "after-predict-api": said}))
    write_page(tmp_path)
    page = (tmp_path / "profiles.md").read_text()
    assert "## predict-api" in page and "json 75%" in page and "parse (service/x.py:1) 50%" in page
    assert "after-predict-api.svg" in page and "rare" not in page and "before" not in page
