"""Objects from one store to another, each checked on the way."""

import asyncio
import shutil
from collections.abc import Callable, Iterable, Mapping
from uuid import uuid4

from kshot.contracts.errors import NotFound
from kshot.storage.objects import ObjectStore
from kshot.storage.referenced import Referenced
from workers.backups.folder import Content, content_of

MISSING, DIFFERS = "it is not in the store", "its content is not what was stored"
_AT_ONCE = 8
_SAY_EVERY = 1000
Say = Callable[[str], None]


class Damage(Exception):
    """What is wrong with an object."""


def copy(source: ObjectStore, target: ObjectStore, wanted: Referenced) -> Content:
    """Copy one object. Raises Damage where it is missing or another than was stored; OSError where a store is away."""
    staged = target.staging() / f"copy-{uuid4().hex}"
    try:
        with source.file(wanted.key) as file:
            shutil.copyfile(file, staged)
        content = content_of(staged)
        if wanted.sha256 not in (None, content.sha256):
            raise Damage(DIFFERS)
        target.adopt(wanted.key, staged)
    except NotFound:
        raise Damage(MISSING) from None
    finally:
        staged.unlink(missing_ok=True)
    return content


def examine(store: ObjectStore, wanted: Referenced) -> Content:
    """Read one object through. Raises as `copy` does."""
    try:
        with store.file(wanted.key) as file:
            content = content_of(file)
    except NotFound:
        raise Damage(MISSING) from None
    if wanted.sha256 not in (None, content.sha256):
        raise Damage(DIFFERS)
    return content


async def each(
    work: Callable[[Referenced], Content], objects: Iterable[Referenced], say: Say
) -> tuple[dict[str, Content], dict[str, str]]:
    """The work for every object, a few at a time: what they hold, and what is wrong with the others. Raises OSError
    where a store is away."""
    sound, faults = dict[str, Content](), dict[str, str]()
    waiting = {one.key: one for one in objects}
    left = iter(waiting.values())

    async def one_after_the_other() -> None:
        for wanted in left:
            try:
                sound[wanted.key] = await asyncio.to_thread(work, wanted)
            except Damage as damage:
                faults[wanted.key] = str(damage)
            if (done := len(sound) + len(faults)) % _SAY_EVERY == 0 or done == len(waiting):
                say(f"objects: {done} of {len(waiting)}, {in_words(sound)}")

    await asyncio.gather(*(one_after_the_other() for _ in range(_AT_ONCE)))
    return sound, faults


def in_words(contents: Mapping[str, Content]) -> str:
    """How much it is."""
    return f"{sum(content.bytes for content in contents.values()) / 1e6:.1f} MB"
