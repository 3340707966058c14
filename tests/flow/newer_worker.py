"""``python -m tests.flow.newer_worker adapt``: a worker of the version after this one, which reads this one's too."""

from kshot.contracts import tasks
from kshot.queue import streams

NEWER = str(int(streams.VERSION) + 1)
NEWER_PAYLOAD = tasks.PAYLOAD_VERSION + 1

if __name__ == "__main__":
    streams.VERSION, streams.READABLE = NEWER, streams.READABLE | {NEWER}
    tasks.READABLE_PAYLOADS |= {NEWER_PAYLOAD}
    from workers.__main__ import main  # its parts take the versions when they are imported

    main()
