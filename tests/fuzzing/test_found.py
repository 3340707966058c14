"""What fuzzing found, each as small as it can be told; see also the samples' bombs."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request

from kshot.checkpoints import parse_checkpoint
from kshot.contracts.errors import Forbidden, Invalid
from kshot.contracts.tasks import Payload
from kshot.contracts.wire import pack, unpack
from kshot.episodes.recorded import measure_recorded
from kshot.learners.state import load_state
from kshot.queue.streams import SENT_AT, sent_ms
from service.sessions import refuse_forged
from tests.fuzzing.stored_samples import BETWEEN, checkpoints, payloads, recorded_files, states


def peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def begin_peak() -> float:
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()


def test_classes_are_counted_only_where_they_are_listed(tmp_path: Path) -> None:
    """A class number of 2 to the 32nd took 32 GiB to count."""
    header, arrays = unpack(recorded_files()[0])
    targets = arrays["targets"].copy()
    targets[0] = 2**32
    file = tmp_path / "data.safetensors"
    file.write_bytes(pack(header, {**arrays, "targets": targets}))
    with pytest.raises(Invalid, match="does not list"):
        measure_recorded(file)


def test_an_encoder_far_larger_than_its_weights_is_never_built() -> None:
    """A manifest of a few bytes asked for as much memory as it liked."""
    text, _, weights = checkpoints()[1].partition(BETWEEN)
    manifest: dict[str, Any] = json.loads(text)
    manifest["encoder"]["options"]["hidden"] = [12_000, 12_000]
    manifest["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    before = begin_peak()
    with pytest.raises(Invalid, match="expected"):
        parse_checkpoint(json.dumps(manifest).encode(), weights)
    assert peak_mb() - before < 200  # the layer between alone would have 549


@pytest.mark.parametrize("lacking", ["version", "options", "answer", "support.inputs"])
def test_a_payload_that_lacks_something_is_invalid(lacking: str) -> None:
    header, arrays = unpack(payloads()[1])
    with pytest.raises(Invalid):
        Payload.decode(pack({name: value for name, value in header.items() if name != lacking}, arrays))


def test_a_payload_with_more_targets_than_inputs_is_invalid() -> None:
    header, arrays = unpack(payloads()[0])
    with pytest.raises(Invalid, match="as many"):
        Payload.decode(pack(header, {**arrays, "support.targets": np.zeros(9)}))


@pytest.mark.parametrize("lacking", ["task", "n_way", "quality"])
def test_a_state_that_lacks_something_is_invalid(lacking: str) -> None:
    header, arrays = unpack(states()[0])
    with pytest.raises(Invalid):
        load_state(pack({name: value for name, value in header.items() if name != lacking}, arrays))


@pytest.mark.parametrize("told", [b"", b"x", b"-1", b"1e3", b"9" * 5000])
def test_a_foreign_message_says_nothing_of_when_it_was_sent(told: bytes) -> None:
    """One that said nonsense ended every read of the stream."""
    assert sent_ms(b"1795391616216-0", {SENT_AT: told}) == 1795391616216
    assert sent_ms(b"1795391616216-0", {SENT_AT: b"17"}) == 17


def test_an_origin_that_is_no_url_is_forbidden() -> None:
    """It was an error of ours."""
    headers = [(b"x-kshot-console", b"1"), (b"origin", b"http://["), (b"host", b"h")]
    with pytest.raises(Forbidden):
        refuse_forged(Request({"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}))
