"""``python -m standalone serve`` (all of kshot), ``servers`` (Postgres and Valkey alone), ``backup TO``,
``restore FROM``, ``check [FROM]``."""

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
    from standalone.backup import operate
    from standalone.errors import StandaloneError
    from standalone.home import locked_home
    from standalone.serve import say_on_terminal, serve
    from standalone.serve_servers import serve_servers

    parser = argparse.ArgumentParser(prog="python -m standalone", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="Postgres, Valkey, migrations, API and worker")
    servers = commands.add_parser("servers", help="Postgres and Valkey alone")
    servers.add_argument("--until-stdin-closes", action="store_true", help="stop when standard input closes")
    saving = commands.add_parser("backup", help="back the data folder up into an empty folder; kshot may go on running")
    restoring = commands.add_parser("restore", help="restore a backup into a data folder that holds nothing yet")
    checking = commands.add_parser("check", help="read a backup through, or everything that the database needs")
    for command, many in ((saving, None), (restoring, None), (checking, "?")):
        command.add_argument("folder", type=Path, nargs=many)
    arguments = parser.parse_args()
    folder = Path(os.environ.get("KSHOT_HOME") or "~/.kshot")
    try:
        if arguments.command in ("backup", "restore", "check"):
            return operate(arguments.command, folder, arguments.folder, os.environ)
        with locked_home(folder) as home:
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
