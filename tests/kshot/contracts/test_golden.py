"""Front ends and workers of neighbouring versions understand each other: what is said stands in ``golden/``.

Where one of these fails, a process of the version before would not understand this one. Raise the version that
covers it (`kshot.queue.streams.VERSION`, `kshot.contracts.tasks.PAYLOAD_VERSION`) in the two steps that READABLE tells,
then add files of that version (`samples`); those of versions that are still read stay.
"""

import json

import numpy as np
import pytest

from kshot.contracts.errors import Unavailable
from kshot.contracts.tasks import PAYLOAD_VERSION, READABLE_PAYLOADS, Payload
from kshot.contracts.wire import pack, unpack
from kshot.queue.streams import READABLE, VERSION, read_message
from tests.kshot.contracts.samples import FOLDER, MESSAGES, PAYLOADS, message_file, payload_file


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_written_as_its_version_says(name: str):
    assert json.loads(MESSAGES[name].model_dump_json()) == json.loads(message_file(name, VERSION).read_text())


@pytest.mark.parametrize("version", sorted(READABLE))
@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_of_each_version_is_read(name: str, version: str):
    fields = {b"v": version.encode(), b"it": message_file(name, version).read_bytes(), b"later": b"passed over"}
    assert read_message(type(MESSAGES[name]), fields, b"it") == MESSAGES[name]


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_is_written_as_its_version_says(name: str):
    """Apart from the order of tensors in the file, which says nothing."""
    (header, arrays), (golden, tensors) = (
        unpack(buffer) for buffer in (PAYLOADS[name].encode(), payload_file(name, PAYLOAD_VERSION).read_bytes())
    )
    assert (header, arrays.keys()) == (golden, tensors.keys())
    for key, array in arrays.items():
        assert array.dtype == tensors[key].dtype
        np.testing.assert_array_equal(array, tensors[key])


@pytest.mark.parametrize("version", sorted(READABLE_PAYLOADS))
@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_of_each_version_is_read(name: str, version: int):
    read, meant = Payload.decode(payload_file(name, version).read_bytes()), PAYLOADS[name]
    assert (read.options, read.answer, read.candidates) == (meant.options, meant.answer, meant.candidates)
    np.testing.assert_equal(read.query, meant.query)
    for one, other in zip(read.others, meant.others, strict=True):
        np.testing.assert_equal((one.inputs, one.query), (other.inputs, other.query))
    if meant.support is None:
        assert read.support is None
        return
    assert read.support is not None
    assert (read.support.task, read.support.classes) == (meant.support.task, meant.support.classes)
    assert read.support.columns == meant.support.columns
    np.testing.assert_equal((read.support.inputs, read.support.targets), (meant.support.inputs, meant.support.targets))


def test_a_payload_of_another_version_is_for_another_process():
    header, arrays = unpack(PAYLOADS["numbers"].encode())
    with pytest.raises(Unavailable, match="another version"):
        Payload.decode(pack(header | {"version": PAYLOAD_VERSION + 1}, arrays))


def test_no_version_that_is_written_is_without_its_files():
    wanted = [message_file(name, version) for name in MESSAGES for version in READABLE | {VERSION}]
    wanted += [payload_file(name, version) for name in PAYLOADS for version in READABLE_PAYLOADS | {PAYLOAD_VERSION}]
    assert sorted(FOLDER.iterdir()) == sorted(wanted)
