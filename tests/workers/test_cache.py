"""The cache's account of its bytes."""

from hypothesis import given
from hypothesis import strategies as st

from workers.lru import ByteLru


def test_the_value_unused_longest_goes_first():
    cache: ByteLru[str, int] = ByteLru(10)
    cache.put("a", 1, 4)
    cache.put("b", 2, 4)
    assert cache.get("a") == 1
    cache.put("c", 3, 4)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)


def test_what_is_larger_than_the_cache_is_not_kept_and_drives_nothing_out():
    cache: ByteLru[str, int] = ByteLru(10)
    cache.put("a", 1, 4)
    cache.put("b", 2, 11)
    assert (cache.get("a"), cache.get("b"), cache.bytes) == (1, None, 4)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12))))
def test_bytes_are_those_of_the_values_kept_and_never_over_the_bound(puts):
    cache: ByteLru[int, tuple[int, int]] = ByteLru(20)
    for key, size in puts:
        cache.put(key, (key, size), size)
        kept = [value for k in range(6) if (value := cache.get(k)) is not None]
        assert cache.bytes == sum(size for _, size in kept) <= 20
        assert cache.get(key) == (key, size)


def test_it_counts_what_was_asked_of_it_and_what_was_pushed_out():
    cache: ByteLru[str, int] = ByteLru(10)
    cache.put("a", 1, 4)
    cache.put("b", 2, 4)
    assert (cache.get("a"), cache.peek("b"), cache.peek("c"), cache.pop("b"), cache.get("b")) == (1, 2, None, 2, None)
    cache.put("c", 3, 8)
    counted = cache.counted("states", "host")
    assert (counted.hits, counted.misses, counted.evictions) == (2, 1, 1)
    assert (counted.bytes, counted.entries) == (8, 1)
