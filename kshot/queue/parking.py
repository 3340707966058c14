"""Messages that a worker cannot read wait aside, each version in a stream of its own, until a worker comes that can.

While an installation is upgraded, an older worker may be handed what a newer front end sent. It must neither fail nor
throw it away, and nobody behind it should wait.
"""

from collections.abc import Sequence

from kshot.queue.link import Word
from kshot.queue.streams import GROUP, PARKED_PREFIX, SENT_AT

_MOST = 1000
_LIFE_S = 600
"""Since the last of a version was parked. By then nobody waits for its prediction any more, and rows hold the tasks."""
_PARK = """
if redis.call('XDEL', KEYS[1], ARGV[2]) == 0 then return 0 end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[3], '*', unpack(ARGV, 5))
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 1
"""
_BRING_BACK = """
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))
return 1
"""


def parked(version: str) -> str:
    """The stream of a version's parked messages."""
    return PARKED_PREFIX + version


def park(stream: str, message: bytes, pairs: Sequence[bytes], version: str) -> tuple[Word, ...]:
    """The command that moves ``message`` aside, in one step: it is in one stream at any time. ``pairs``: its fields and
    values in turn, to which come where it was and when it was sent."""
    told = (b"from", stream, SENT_AT, message.split(b"-")[0])
    return ("EVAL", _PARK, 2, stream, parked(version), GROUP, message, _MOST, _LIFE_S, *told, *pairs)


def bring_back(version: str, message: bytes, pairs: Sequence[bytes]) -> tuple[Word, ...]:
    """The command that moves a parked message to where it was, unless another worker has."""
    return ("EVAL", _BRING_BACK, 2, parked(version), pairs[1], message, *pairs[2:])
