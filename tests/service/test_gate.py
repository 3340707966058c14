"""How many calls are let in, of whom, and what those hear who are not."""

import pytest

from kshot.contracts.errors import QueueFull
from service import gate
from service.gate import ALWAYS, LEAST, Gate


class Clock:
    """Stands in for the time: what is let in depends on how fast calls end."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(gate, "time", clock)
    return clock


def fill(door: Gate, tenant: str) -> int:
    """As many calls as are let in."""
    n = 0
    while True:
        try:
            door.enter(tenant)
        except QueueFull as error:
            assert error.retry_after is not None and error.retry_after > 0
            return n
        n += 1


def test_a_burst_is_let_in_and_one_tenant_leaves_room_for_another(clock: Clock) -> None:
    door = Gate(100)
    assert fill(door, "noisy") == 100 - LEAST
    assert fill(door, "quiet") == ALWAYS  # from the first refusal on, the line is short
    assert [fill(door, "noisy"), fill(door, "quiet")] == [0, 0]


@pytest.mark.reliability("faults: overload", "latency")
def test_who_is_refused_makes_the_line_as_short_as_what_ends_soon(clock: Clock) -> None:
    door = Gate(1000)
    for _ in range(200):  # 400 a second
        clock.now += 0.05
        for _ in range(20):
            door.enter("steady")
        for _ in range(20):
            door.leave("steady")
    taken = fill(door, "noisy")
    assert taken == 800
    for _ in range(taken):
        door.leave("noisy")
    assert LEAST <= fill(door, "noisy") < 50


def test_who_asks_for_an_equal_part_or_less_is_not_turned_away_for_the_others(clock: Clock) -> None:
    door = Gate(100)

    def stretch(quiet: int) -> tuple[int, int]:
        """What half a second lets in of a flood and of a few calls, none of which ends before its end."""
        clock.now += 0.51
        noisy = fill(door, "noisy")
        few = [_enters(door, "quiet") for _ in range(quiet)]
        for tenant, n in (("noisy", noisy), ("quiet", sum(few))):
            for _ in range(n):
                door.leave(tenant)
        return noisy, sum(few)

    for _ in range(10):
        noisy, _ = stretch(4)
    assert noisy < LEAST and stretch(4) == (noisy, 4)
    assert stretch(60)[1] < 30, "many more than before"


def _enters(door: Gate, tenant: str) -> bool:
    try:
        door.enter(tenant)
    except QueueFull:
        return False
    return True


def test_after_a_calm_second_a_burst_is_welcome_again(clock: Clock) -> None:
    door = Gate(100)
    for _ in range(fill(door, "noisy")):
        door.leave("noisy")
    taken = fill(door, "noisy")
    assert 0 < taken <= LEAST
    for _ in range(taken):
        door.leave("noisy")
    clock.now += gate.CALM_S + 0.1
    assert fill(door, "noisy") == 100 - LEAST


def test_where_others_have_asked_lately_one_tenant_leaves_them_a_fifth(clock: Clock) -> None:
    door = Gate(100)
    door.enter("quiet")
    door.leave("quiet")
    for _ in range(2):
        taken = fill(door, "noisy")
        assert taken == 80
        for _ in range(taken):
            door.leave("noisy")
        clock.now += gate.CALM_S + 0.1  # in the next window they have still asked in the one before
    assert fill(door, "noisy") == 100 - LEAST


def test_the_more_are_refused_the_longer_they_are_told_to_wait(clock: Clock) -> None:
    door = Gate(16)
    fill(door, "noisy")
    told = []
    for _ in range(30):
        with pytest.raises(QueueFull) as refused:
            door.enter("noisy")
        told.append(refused.value.retry_after)
    assert told == sorted(told) and told[-1] == 10


def test_a_call_that_ended_makes_room(clock: Clock) -> None:
    door = Gate(16)
    n = fill(door, "noisy")
    door.leave("noisy")
    clock.now += gate.CALM_S + 0.1
    assert fill(door, "noisy") == 1 and n == 13
