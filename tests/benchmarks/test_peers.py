"""The comparison with the peers in its short form: kshot alone, and beside the peers where their environment is."""

import json
import os
from pathlib import Path

import pytest

from benchmarks.peers.__main__ import main
from benchmarks.peers.cases import families

PEERS = os.environ.get("KSHOT_PEERS", "")
"""The Python of the peers' environment, see benchmarks/peers/environment.py."""


def results(folder: Path) -> dict[str, dict[str, dict[str, float | None]]]:
    """Family -> contestant -> figures."""
    rows = json.loads((folder / "peers.json").read_text())
    return {row["family"]: {one["name"]: one for one in row["measured"]} for row in rows}


def test_kshot_alone_answers_as_the_flat_loop_does(tmp_path: Path) -> None:
    assert main(["--quick", "--only", "MLP", "--out", str(tmp_path)]) == 0
    assert main(["--quick", "--only", "prototypes", "--out", str(tmp_path)]) == 0
    found = results(tmp_path)
    assert len(found) == 2
    for family in found.values():
        assert family and all(name.startswith("kshot") for name in family)
        assert all(one["difference"] is not None and one["difference"] <= 1e-3 for one in family.values())
    assert "## Targets, misses first" in (tmp_path / "peers.md").read_text()


@pytest.mark.skipif(not PEERS, reason="KSHOT_PEERS does not name the Python of the peers' environment")
def test_peers_do_the_same_arithmetic(tmp_path: Path) -> None:
    assert main(["--quick", "--peers", PEERS, "--only", "MLP", "--out", str(tmp_path)]) == 0
    (family,) = results(tmp_path).values()
    assert {name.partition(",")[0] for name in family} == {"learn2learn", "torchopt", "higher", "kshot"}
    assert all(one["difference"] <= 1e-5 for name, one in family.items() if one["difference"] is not None)
    assert (tmp_path / "peers.png").is_file()


def test_targets_name_contestants_of_their_family() -> None:
    for family in families():
        names = {contestant.name for contestant in family.contestants}
        assert len(names) == len(family.contestants)
        assert all(set(target.ours) | set(target.theirs) <= names for target in family.targets)
