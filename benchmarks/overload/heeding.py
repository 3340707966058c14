"""Connections that note what a server says of when to come back."""

from collections.abc import Awaitable, Callable

from benchmarks.serving.connection import Connection, connect


class Heeding(Connection):
    """Appends each Retry-After, in seconds, to ``told``."""

    def __init__(self, told: list[float]) -> None:
        super().__init__()
        self._told = told

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        if name.lower() == b"retry-after":
            self._told.append(float(value))


def heeding(told: list[float]) -> Callable[[str], Awaitable[Connection]]:
    """Opens such connections."""

    async def connector(url: str) -> Connection:
        return await connect(url, lambda: Heeding(told))

    return connector
