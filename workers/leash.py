"""``python leash.py PARENT ARGV...``: become ARGV, with less claim to the processor than whoever answers requests, and
die with the parent (on Linux; elsewhere a child that must not outlive us looks at its parent's id now and then).

A program between fork and exec, because the trainer has threads, and code of ours may not run there.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_NICE = 10


def _main() -> None:
    parent, argv = int(sys.argv[1]), sys.argv[2:]
    os.nice(_NICE)
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)
    os.execvp(argv[0], argv)  # noqa: S606 (there is nothing for a shell to do)


if __name__ == "__main__":
    _main()
