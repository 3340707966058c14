"""What glibc does with freed memory. Tensors of some megabytes come and go at each step; by its usual settings every
one of them is mapped anew, and most of a small network's time goes into page faults.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST_FROM_HEAP = (1 << 30, 1 << 25)  # bytes: one call of a learner stays far below; the most that older ones take
_NEVER_TRIMMED = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, up to the most it has ever used at once, for its next tensors.

    Call it before the first large tensor. Returns whether there was a glibc to tell; elsewhere nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return False
    kept = mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIMMED)
    return any(mallopt(_M_MMAP_THRESHOLD, size) for size in _LARGEST_FROM_HEAP) and bool(kept)
