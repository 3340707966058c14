"""The examples of README.md and docs/, found in the text and run word for word, as a reader would.

What the marks in a page mean stands in CONTRIBUTING.md. A fenced ``bash`` or ``python`` block is run, unless the line
before it says ``<!-- not run: needs ... -->``; an ``output`` block right after it is what it must print.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WRITTEN_URL = "http://127.0.0.1:8000"
ONE_SESSION = "<!-- python: one session -->"
RUN = ("bash", "python")
_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+?) -->\n\n?)?"
    r"^```(?P<language>\w+)\n(?P<code>.*?)^```\n"
    r"(?:\n?^```output\n(?P<printed>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
_SESSION = """
import json, sys, traceback
names = {"__name__": "__main__"}
for line in sys.stdin:
    try:
        exec(compile(json.loads(line), "<block>", "exec"), names)
        end = "done"
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        end = "failed"
    print(f"\\0{end}", flush=True)
"""


@dataclass(frozen=True)
class Block:
    """A fenced block. ``reason``: why it is not run. ``printed``: what it must print, where the page shows it."""

    page: str
    line: int
    language: str
    code: str
    reason: str | None
    printed: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """All pages that are written by hand."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page.relative_to(ROOT).as_posix() for page in found]


def blocks_of(page: str) -> list[Block]:
    """Every block of a page that has a language, in order."""
    text = (ROOT / page).read_text()
    return [
        Block(page, text[: found.start("code")].count("\n"), **found.groupdict()) for found in _BLOCK.finditer(text)
    ]


def runnable(page: str) -> list[Block]:
    """Those that are run."""
    return [block for block in blocks_of(page) if block.language in RUN and block.reason is None]


def run_page(page: str, url: str, folder: Path) -> list[str]:
    """What each of the page's runnable blocks prints, against the service at ``url``, in a caller's folder."""
    with ExitStack() as stack:
        session = None
        if ONE_SESSION in (ROOT / page).read_text():
            session = stack.enter_context(_python_session(url, folder))
        return [_run(block, url, folder, session) for block in runnable(page)]


def _run(block: Block, url: str, folder: Path, session: "subprocess.Popen[str] | None") -> str:
    code = block.code.replace(WRITTEN_URL, url)
    if session is not None and block.language == "python":
        printed = _run_in(session, code, block)
    else:
        command = ["bash", "-euo", "pipefail", "-c", code] if block.language == "bash" else [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, **_surroundings(url, folder))
        assert done.returncode == 0, f"{block} failed:\n{done.stdout}\n{done.stderr}"
        printed = done.stdout
    if block.printed is not None:
        right = OutputChecker().check_output(block.printed, printed, ELLIPSIS | NORMALIZE_WHITESPACE)
        assert right, f"{block} is to print\n{block.printed}\nand printed\n{printed}"
    return printed


def _surroundings(url: str, folder: Path) -> dict[str, Any]:
    """Where a block runs: the commands of this environment at hand, no colours, lines of one width."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"KSHOT_URL": url, "PATH": path, "NO_COLOR": "1", "COLUMNS": "120", "TERM": "dumb"}
    return {"cwd": folder, "env": {**os.environ, **own}}


@contextmanager
def _python_session(url: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-u", "-c", _SESSION]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **_surroundings(url, folder)
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _run_in(session: "subprocess.Popen[str]", code: str, block: Block) -> str:
    assert session.stdin and session.stdout
    session.stdin.write(json.dumps(code) + "\n")
    session.stdin.flush()
    printed = ""
    for line in session.stdout:
        printed += line
        if "\0" in line:
            printed, end = printed.split("\0")
            assert end.strip() == "done", f"{block} failed:\n{printed}"
            return printed
    raise AssertionError(f"{block} ended the session:\n{printed}")
