"""Every example of README.md and docs/ runs, word for word, against the service that `make serve` runs."""

import ast
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.flow.pages import ROOT, RUN, Block, blocks_of, pages, run_page, runnable

SHOWN = {"output", "text", "json", "yaml", "toml", "ini", "http", "promql"}
REASONS = ("needs ", "starts ", "shown ")
MARKED = [block for page in pages() for block in blocks_of(page) if block.reason is not None]
Ran = Callable[[str], list[str]]


@pytest.fixture(scope="session")
def ran(page_url: str, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """What the blocks of a page print; each page is run once, in a folder of its own."""
    begun: set[str] = set()
    printed: dict[str, list[str]] = {}

    def run(page: str) -> list[str]:
        if page not in begun:
            begun.add(page)
            printed[page] = run_page(page, page_url, photographs(tmp_path_factory.mktemp("page")))
        assert page in printed, f"{page} failed before"
        return printed[page]

    return run


def photographs(folder: Path) -> Path:
    """A caller's folder, with the photographs the pages speak of."""
    for i, name in enumerate(["cup1", "cup2", "chair1", "chair2", "which"]):
        picture = Image.effect_mandelbrot((96, 96), (-2 + i / 5, -1.5, 1, 1.5), 20 + i)
        picture.convert("RGB").save(folder / f"{name}.jpg")
    return folder


def printed_by(ran: Ran, page: str, code: str) -> str:
    """What the block that contains ``code`` prints."""
    ((_, printed),) = [pair for pair in zip(runnable(page), ran(page), strict=True) if code in pair[0].code]
    return printed


@pytest.mark.flow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [page for page in pages() if runnable(page)])
def test_every_block_runs_and_prints_what_the_page_says(page: str, ran: Ran):
    assert len(ran(page)) == len(runnable(page))


@pytest.mark.parametrize("block", MARKED, ids=lambda block: f"{block} {block.reason}")
def test_a_block_that_is_not_run_says_why_and_is_code(block: Block):
    assert block.language in RUN and block.reason is not None and block.reason.startswith(REASONS), block
    if block.language == "python":
        ast.parse(block.code)
    else:
        subprocess.run(["bash", "-n", "-c", block.code], check=True)


@pytest.mark.parametrize("page", pages())
def test_no_code_escapes_the_harness(page: str):
    """Every fence has a language that is run, or one that is only shown; docs/ has no code without a fence."""
    text = (ROOT / page).read_text()
    fences = re.findall(r"^( *)```(\S*)", text, re.MULTILINE)
    opening = fences[::2]
    assert len(fences) % 2 == 0 and all(not indent for indent, _ in opening), f"{page}: a fence that is indented"
    for _, language in opening:
        assert language in {*RUN, *SHOWN} or language.startswith("{"), f"{page}: a fence of {language or 'no language'}"
    assert text.count("<!-- not run:") == len([block for block in blocks_of(page) if block.reason]), page
    if page != "README.md":
        unfenced = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        assert not re.search(r"\n\n {4,}\S", unfenced), f"{page}: code without a fence"


@pytest.mark.parametrize("page", pages())
def test_what_is_shown_as_data_can_be_read(page: str):
    readers = {"json": json.loads, "yaml": lambda text: list(yaml.safe_load_all(text))}
    for block in blocks_of(page):
        if reader := readers.get(block.language):
            reader(block.code)


@pytest.mark.flow
def test_the_readme_answers_what_it_says(ran: Ran):
    def answer(code: str) -> str:
        return printed_by(ran, "README.md", code)

    first = json.loads(answer('"query": {"inputs": ["my new card is late"]}'))
    assert (first["status"], first["classes"], first["n_way"]) == ("succeeded", ["arrival", "refund"], 2)
    assert first["quality"]["method"] == "leave_one_out" and first["predictions"][0]["label"] == "arrival"
    photos = json.loads(answer("support[cup]=@cup1.jpg"))
    assert (photos["status"], photos["k_shot"]) == ("succeeded", {"cup": 2, "chair": 2})
    numbers = json.loads(answer('"checkpoint": "vectors"'))
    assert numbers["task"] == "regression" and numbers["predictions"][0]["value"] == pytest.approx(13, abs=0.7)
    assert answer("def drawing(").strip() == "['ring', 'cross']"
    assert answer("I was charged twice").splitlines()[-1] == "['refund']"


@pytest.mark.flow
def test_several_targets_are_answered_each(ran: Ran):
    model = json.loads(printed_by(ran, "docs/how-to/several-targets.md", '"team": "cards"'))
    assert (model["status"], model["task"], model["learner"]) == ("succeeded", "multitask", "multitask")
    assert [(target["name"], target["n_examples"]) for target in model["targets"]] == [("team", 5), ("urgency", 4)]
    assert model["targets"][0]["k_shot"] == {"cards": 2, "payments": 3}
    (prediction,) = model["predictions"]
    assert prediction["targets"]["team"]["label"] == "cards" and "value" in prediction["targets"]["urgency"]


@pytest.mark.flow
def test_auto_considers_the_checkpoints_for_pictures(ran: Ran):
    model = json.loads(printed_by(ran, "docs/how-to/auto.md", "support[cup]=@cup1.jpg"))
    considered = {item["checkpoint"]["name"] for item in model["selection"]["considered"]}
    assert {"glyphs", "photos"} <= considered and model["checkpoint"]["name"] in considered
    assert model["status"] == "succeeded" and model["predictions"][0]["label"] in {"cup", "chair"}


@pytest.mark.flow
def test_the_shortest_way_ends_with_an_answer_of_the_new_checkpoint(ran: Ran):
    lines = printed_by(ran, "docs/how-to/meta-training.md", "job.events()").splitlines()
    kinds = [line.split(" ", 1)[0] for line in lines[:-2]]
    assert kinds[-1] == "succeeded" and {"started", "step", "saved", "evaluated"} <= {*kinds}
    assert lines[-2].startswith("succeeded [('mse', ")
    version, value = lines[-1].split()
    assert version == "1" and -5 < float(value) < 5
