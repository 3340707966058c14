"""The example of docs/performance.md, word for word, against the service that `make serve` runs."""

from pathlib import Path

import pytest

from tests.flow.pages import blocks_of, run_block

(BINARY,) = blocks_of("docs/performance.md")


@pytest.mark.flow
def test_the_binary_body_is_answered(page_url: str, folder: Path):
    label, *timings = run_block(*BINARY, page_url, folder).split()
    assert label == "0" and "'compute_ms':" in timings
