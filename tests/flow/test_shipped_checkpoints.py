"""The accuracy benchmark in its short form: every shipped checkpoint over HTTP on held-out tasks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.accuracy.served import measure
from benchmarks.caller import Caller
from benchmarks.own_service import own_service
from benchmarks.suites import SUITES, Suite

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
EPISODES = 12
SLACK = 4  # half-widths of the interval: a short run may be unlucky, but not by that much

pytestmark = [
    pytest.mark.flow,
    pytest.mark.skipif(not DATA.is_dir(), reason="the data sets of ../shared/data are not here"),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with own_service() as running:
        yield running


@pytest.mark.parametrize("suite", [s for s in SUITES if s.n_way != 77], ids=lambda suite: suite.name)
async def test_held_out_tasks(suite: Suite, url: str):
    caller = Caller(url)
    figure = await measure(suite, caller, DATA, 200 if suite.n_way is None else EPISODES)
    await caller.close()
    if figure.metric == "mse":
        assert suite.target is not None
        assert figure.mean <= suite.target + SLACK * figure.interval
    else:
        peers = [peer.mean for peer in figure.peers.values()]
        assert figure.mean + SLACK * max(figure.interval, 0.01) >= max([suite.target or 0, *peers])


def test_every_checkpoint_that_ships_is_measured():
    shipped = {
        path.parent.name for path in (Path(__file__).resolve().parents[2] / "checkpoints").glob("*/manifest.json")
    }
    assert shipped == {suite.checkpoint for suite in SUITES}
