"""A page's examples, run word for word."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def blocks_of(page: str) -> list[tuple[str, str]]:
    """Language and text of each example of a page."""
    return re.findall(r"^```(bash|python)\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def run_block(language: str, block: str, url: str, folder: Path) -> str:
    """What an example prints, against the service at ``url``, in a caller's folder."""
    code = block.replace("http://127.0.0.1:8000", url)
    assert code != block, "an example that calls no service"
    command = ["bash", "-euc", code] if language == "bash" else [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180, env=os.environ)
    assert done.returncode == 0, done.stderr
    return done.stdout
