"""Who waits is let in together, once the round before has ended."""

import asyncio
from collections.abc import Iterable

from service.rounds import Rounds

PATIENCE_S = 120


async def enter(rounds: Rounds, name: int, inside: list[int], leave: asyncio.Event) -> None:
    async with rounds.enter():
        inside.append(name)
        try:
            await leave.wait()
        finally:
            inside.remove(name)


async def until(inside: list[int], names: Iterable[int]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while inside != list(names):
            await asyncio.sleep(0)


async def test_who_comes_together_goes_together_and_the_rest_when_they_have_left() -> None:
    rounds, inside, first, second = Rounds(PATIENCE_S), list[int](), asyncio.Event(), asyncio.Event()
    early = [asyncio.create_task(enter(rounds, name, inside, first)) for name in range(3)]
    await until(inside, range(3))
    late = [asyncio.create_task(enter(rounds, name, inside, second)) for name in (7, 8)]
    await asyncio.sleep(0)
    assert inside == [0, 1, 2]
    first.set()
    await until(inside, (7, 8))
    second.set()
    await asyncio.gather(*early, *late)


async def test_a_round_is_bounded() -> None:
    rounds, inside, leave = Rounds(PATIENCE_S), list[int](), asyncio.Event()
    tasks = [asyncio.create_task(enter(rounds, name, inside, leave)) for name in range(40)]
    await until(inside, range(32))
    leave.set()
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)


async def test_who_gives_up_outside_or_on_the_threshold_or_inside_keeps_nobody_out() -> None:
    rounds, inside, leave = Rounds(PATIENCE_S), list[int](), asyncio.Event()
    within = asyncio.create_task(enter(rounds, 0, inside, leave))
    await until(inside, [0])
    outside = [asyncio.create_task(enter(rounds, name, inside, leave)) for name in (1, 2, 3)]
    await asyncio.sleep(0)
    outside[0].cancel()  # waits
    within.cancel()  # inside: it opens the next round as it ends
    await asyncio.wait([within, outside[0]])
    outside[1].cancel()  # let in or about to be
    await until(inside, [3])
    leave.set()
    await asyncio.wait_for(outside[2], PATIENCE_S)


async def test_an_error_within_ends_the_round_too() -> None:
    rounds, inside, leave = Rounds(PATIENCE_S), list[int](), asyncio.Event()
    leave.set()
    try:
        async with rounds.enter():
            raise ValueError
    except ValueError:
        pass
    await asyncio.wait_for(enter(rounds, 1, inside, leave), PATIENCE_S)


async def test_who_hangs_keeps_nobody_out_for_ever() -> None:
    rounds, inside, never, leave = Rounds(), list[int](), asyncio.Event(), asyncio.Event()
    hanging = asyncio.create_task(enter(rounds, 0, inside, never))
    await until(inside, [0])
    others = [asyncio.create_task(enter(rounds, name, inside, leave)) for name in (1, 2)]
    await until(inside, [0, 1, 2])
    never.set()
    await asyncio.wait_for(hanging, PATIENCE_S)
    leave.set()
    await asyncio.wait_for(asyncio.gather(*others), PATIENCE_S)
