"""``python -m standalone servers``: only Postgres and Valkey, for tests and for working on kshot itself."""

import json
import os
import sys
from collections.abc import Mapping

from standalone.home import Home
from standalone.parts import Part
from standalone.servers import choose_servers
from standalone.supervisor import StopAsked, Supervisor


def serve_servers(home: Home, environ: Mapping[str, str], *, until_stdin_closes: bool) -> None:
    """Run the servers until a stop signal, or until standard input closes.

    Prints one JSON line with the URLs once they serve. With ``until_stdin_closes``, lines ``pid NAME``, ``stop NAME``
    and ``start NAME`` are obeyed, each answered by one JSON line: the levers of fault tests.
    """
    servers = choose_servers(home, environ)
    parts = {part.name: part for part in servers.parts}
    with Supervisor(say=lambda line: print(line, file=sys.stderr, flush=True)) as supervisor:
        try:
            supervisor.start(servers.parts)
            supervisor.wait_ready(parts)
            _answer({"database_url": servers.database_url, "redis_url": servers.redis_url})
            if until_stdin_closes:
                _obey(supervisor, parts)
            while True:
                supervisor.watch()
        except StopAsked:
            return


def _obey(supervisor: Supervisor, parts: Mapping[str, Part]) -> None:
    """Carry out the lines of standard input until it closes."""
    pending = b""
    while True:
        if not supervisor.watch(also=0):
            continue
        typed = os.read(0, 4096)
        if not typed:
            raise StopAsked
        *lines, pending = (pending + typed).split(b"\n")
        for line in lines:
            verb, name = line.decode().split()
            _carry_out(supervisor, verb, parts[name])


def _carry_out(supervisor: Supervisor, verb: str, part: Part) -> None:
    if verb == "stop":
        supervisor.stop_part(part.name)
        _answer({})
        return
    if verb == "start":
        supervisor.start([part])
        supervisor.wait_ready([part.name])
    _answer({"pid": supervisor.pid(part.name)})


def _answer(values: Mapping[str, object]) -> None:
    print(json.dumps(values), flush=True)
