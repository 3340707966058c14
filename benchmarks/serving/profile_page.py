"""The page beside the flame graphs: who spends how much of each process's time, one column per label."""

import json
from pathlib import Path
from typing import Any

_LABELS = ("before", "after")


def write_page(folder: Path) -> None:
    """``profiles.md`` in ``folder``, from the JSON files that `benchmarks.serving.profiles` left there."""
    files = {label: folder / f"{label}.json" for label in _LABELS}
    found: dict[str, dict[str, Any]] = {
        label: json.loads(file.read_text()) for label, file in files.items() if file.exists()
    }
    lines = ["# Where the time goes", ""]
    lines += [f"- {label}: commit {said['about']['commit']}, {said['about']['date']}" for label, said in found.items()]
    lines += [f"- machine: {said['about']['machine']}" for said in list(found.values())[-1:]]
    names = [name for said in found.values() for name in said if name != "about"]
    for process in dict.fromkeys(name.partition("-")[2] for name in names):
        lines += ["", f"## {process}", ""]
        for label, said in found.items():
            if (profile := said.get(f"{label}-{process}")) is not None:
                lines += [f"{label} ([flame graph]({label}-{process}.svg)): {profile['load']}", ""]
                lines += [f"- packages: {_list(profile['packages'])}"]
                lines += [f"- our functions: {_list(profile['functions'])}", ""]
    (folder / "profiles.md").write_text("\n".join(lines).rstrip() + "\n")


def _list(shares: list[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares if share >= 0.01)
