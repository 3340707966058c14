"""All decoders, by name."""

from collections.abc import Mapping
from functools import cache

from tests.fuzzing.bodies import body_decoders
from tests.fuzzing.decoder import Decoder
from tests.fuzzing.files import file_decoders
from tests.fuzzing.stored import stored_decoders


@cache
def decoders() -> Mapping[str, Decoder]:
    """In the order of the results page."""
    return {decoder.name: decoder for decoder in [*file_decoders(), *body_decoders(), *stored_decoders()]}
