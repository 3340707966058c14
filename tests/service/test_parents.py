"""Large supports of models that grew lately are kept in memory, up to a bound, and no longer than their models."""

import numpy as np

from kshot.contracts.tasks import SupportSet
from service.parents import Parents

KIB = 1024


def of_size(n_bytes: int) -> SupportSet:
    return SupportSet("classification", np.zeros((1, n_bytes), np.uint8), np.zeros(1, np.int64), ("a",))


def test_those_used_last_stay():
    parents, kept = Parents(1024 * KIB), [of_size(400 * KIB) for _ in range(3)]
    for name, support in zip("ab", kept, strict=False):
        parents.keep(name, support)
    assert parents.get("a") is kept[0]
    parents.keep("c", kept[2])
    assert [parents.get(name) for name in "abc"] == [kept[0], None, kept[2]]


def test_a_deleted_one_makes_room():
    parents, support = Parents(1024 * KIB), of_size(600 * KIB)
    parents.keep("a", support)
    for _ in range(2):
        parents.drop("a")
    parents.keep("b", support)
    parents.keep("b", support)
    parents.keep("c", of_size(400 * KIB))
    assert parents.get("a") is None and parents.get("b") is support and parents.get("c") is not None


def test_what_is_small_or_larger_than_all_the_room_is_read_again():
    parents = Parents(1024 * KIB)
    parents.keep("small", of_size(KIB))
    parents.keep("large", of_size(1025 * KIB))
    parents.keep("texts", SupportSet("classification", ["short"], np.zeros(1, np.int64), ("a",)))
    assert [parents.get(name) for name in ("small", "large", "texts")] == [None] * 3
