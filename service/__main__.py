"""``python -m service serve`` and ``python -m service create-key``."""

import argparse
import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from pydantic import ValidationError
from pydantic_settings import SettingsError

from kshot.allocator import keep_freed_memory
from kshot.contracts.errors import KshotError
from kshot.logs import log_unhandled
from kshot.tracing import start_tracing, stop_tracing
from service.app import create_app
from service.context import is_loopback
from service.keys import create_key, prepare
from service.logs import configure_logs
from service.processes import supervise
from service.protocol import as_uvicorn_http, protocol_with_deadline
from service.settings import Settings

_KEEP_ALIVE_S = 75
_DRAIN_S = 10
_MOST_PROCESSES = 64


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m service", description="kshot's HTTP front end")
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="serve the HTTP API")
    serving.add_argument("--host", default="127.0.0.1")
    serving.add_argument("--port", type=int, default=8000)
    serving.add_argument("--processes", type=_count, default=1, help="API processes behind the one port")
    serving.add_argument("--socket", type=int, help=argparse.SUPPRESS)  # how `supervise` starts each of them
    making = commands.add_parser("create-key", help="make an API key and print it, once")
    making.add_argument("--tenant", default="default")
    making.add_argument("--role", choices=["user", "admin"], default="user")
    making.add_argument("--name", required=True)
    options = parser.parse_args(arguments)
    configure_logs()
    try:
        settings = Settings()
        configure_logs(settings.log_level)
        if options.command == "serve":
            if options.socket is not None:
                shared = socket.socket(fileno=options.socket)
                return _run(settings, [shared])
            return _serve(settings, options.host, options.port, options.processes)
        print(asyncio.run(create_key(settings, tenant=options.tenant, role=options.role, name=options.name)))
    except ValidationError as error:
        for fault in error.errors(include_input=False):
            print(f"setting {'.'.join(map(str, fault['loc']))}: {fault['msg']}", file=sys.stderr)
        return 2
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except KshotError as error:
        print(error.message, file=sys.stderr)
        return 1
    return 0


class _Server(uvicorn.Server):
    """uvicorn waits for answers under way; those without an end are told of it first."""

    on_exit: Callable[[], None]
    with_parent = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(log_unhandled)
        await super().startup(sockets)
        if self.with_parent:  # its end closes the pipe that is our standard input
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self.handle_exit, signal.SIGTERM, None)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.with_parent:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        self.on_exit()
        super().handle_exit(sig, frame)


def _serve(settings: Settings, host: str, port: int, processes: int) -> int:
    keys_exist = asyncio.run(prepare(settings, processes))
    if not keys_exist and not is_loopback(f"[{host}]" if ":" in host else host):
        print(
            f"refusing to listen on {host} without any API key: make one with `python -m service create-key --role "
            "admin --name NAME`, or set KSHOT_ADMIN_KEY",
            file=sys.stderr,
        )
        return 2
    if processes > 1:
        return supervise(host, port, processes, patience_s=_DRAIN_S + 5)
    return _run(settings, None, host=host, port=port)


def _run(settings: Settings, sockets: list[socket.socket] | None, **where: Any) -> int:
    """Serve in this process, until a signal; or until the parent ends, where that has opened the sockets."""
    keep_freed_memory()  # a support of photographs is copied some ten times, and fresh pages cost more than the copying
    start_tracing("kshot-api")
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        **where,
        loop="uvloop",
        http=as_uvicorn_http(protocol_with_deadline(settings.header_deadline_s)),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_DRAIN_S,
    )
    server = _Server(config)
    server.with_parent = sockets is not None
    server.on_exit = lambda: setattr(app.state.kshot, "closing", True)
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn drains, then raises the signal again: that is the end
        signal.signal(number, lambda *_: None)
    server.run(sockets)
    stop_tracing()
    return 0 if server.started else 1


def _count(text: str) -> int:
    count = int(text)
    if not 0 < count <= _MOST_PROCESSES:
        raise argparse.ArgumentTypeError(f"from 1 to {_MOST_PROCESSES}")
    return count


if __name__ == "__main__":
    sys.exit(main())
