"""``python -m standalone serve`` (all of kshot) and ``python -m standalone servers`` (Postgres and Valkey alone)."""

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    """Parse the command line and run; returns the exit code."""
    if sys.platform == "win32":
        print("kshot: the embedded servers do not run on Windows. Use WSL2 (wsl --install); or run Postgres and Redis")
        print("yourself, set DATABASE_URL and REDIS_URL, and start the commands that docker-compose.yml names.")
        return 1
    from standalone.errors import StandaloneError
    from standalone.home import locked_home
    from standalone.serve import say_on_terminal, serve
    from standalone.serve_servers import serve_servers

    parser = argparse.ArgumentParser(prog="python -m standalone", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="Postgres, Valkey, migrations, API and worker")
    servers = commands.add_parser("servers", help="Postgres and Valkey alone")
    servers.add_argument("--until-stdin-closes", action="store_true", help="stop when standard input closes")
    arguments = parser.parse_args()
    try:
        with locked_home(Path(os.environ.get("KSHOT_HOME") or "~/.kshot")) as home:
            if arguments.command == "serve":
                serve(home, os.environ, say_on_terminal)
            else:
                serve_servers(home, os.environ, until_stdin_closes=arguments.until_stdin_closes)
    except StandaloneError as error:
        print(f"kshot: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
