"""The examples of docs/meta-training.md, word for word, against the service that `make serve` runs."""

from pathlib import Path

import pytest

from tests.flow.pages import blocks_of, run_block

START, WATCH = blocks_of("docs/meta-training.md")


@pytest.mark.flow
def test_the_shortest_way_ends_with_an_answer_of_the_new_checkpoint(page_url: str, folder: Path):
    started = run_block(*START, page_url, folder)
    assert '"object":"training_job"' in started
    lines = run_block(*WATCH, page_url, folder).splitlines()
    kinds = [line.split(" ", 1)[0] for line in lines[:-2]]
    assert kinds[0] == "queued" and kinds[-1] == "succeeded" and {"started", "step", "saved", "evaluated"} <= {*kinds}
    assert lines[-2].startswith("succeeded [('mse', ")
    version, value = lines[-1].split()
    assert version == "1" and -5 < float(value) < 5
