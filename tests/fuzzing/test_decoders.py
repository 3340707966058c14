"""Whatever bytes come, a decoder answers with a value within its bounds or with one of our refusals.

The long form, a million inputs with memory and time watched: `python -m tests.fuzzing decoders`.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzzing.decoder import Decoder
from tests.fuzzing.everything import decoders
from tests.fuzzing.mutating import Edit, damage

SHORT = settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
EDITS = st.lists(st.builds(Edit, st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 2**32 - 1)), max_size=6)
every = pytest.mark.parametrize("decoder", decoders().values(), ids=list(decoders()))


@every
def test_what_is_valid_is_taken(decoder: Decoder) -> None:
    for sample in decoder.samples:
        assert decoder.refusal_of(sample) is None


@every
def test_bombs_are_refused_or_harmless(decoder: Decoder) -> None:
    for bomb in decoder.bombs:
        decoder.refusal_of(bomb)


@every
def test_any_bytes_are_taken_or_refused(decoder: Decoder) -> None:
    @SHORT
    @given(st.binary(max_size=400))
    def holds(data: bytes) -> None:
        decoder.refusal_of(data)

    holds()


@every
def test_damaged_files_are_taken_or_refused(decoder: Decoder) -> None:
    @SHORT
    @given(st.sampled_from(decoder.samples), EDITS, st.booleans())
    def holds(sample: bytes, edits: list[Edit], mended: bool) -> None:
        damaged = damage(sample, edits, decoder.stock)
        decoder.refusal_of(decoder.repair(damaged) if mended and decoder.repair is not None else damaged)

    holds()
