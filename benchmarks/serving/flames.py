"""Stacks as py-spy writes them (`--format raw`) -> a flame graph as a small SVG, and who spends how much."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

_WIDTH, _ROW, _LETTER = 1200, 17, 6.6
_NARROWEST = 1.5  # pixels: what is narrower is not drawn, which keeps the file small
_OURS = ("service/", "kshot/", "workers/")
_COLOURS = {"service/": "#7fb3d5", "kshot/": "#76d7a4", "workers/": "#f0b27a"}
_FOREIGN = "#e0e0e0"

Stacks = Mapping[tuple[str, ...], int]
"""Frames from the outermost to the innermost, `function (file)` -> samples."""


def read_stacks(raw: str) -> dict[tuple[str, ...], int]:
    """py-spy's lines `frame;frame;frame count`."""
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in raw.splitlines():
        frames, _, count = line.rpartition(" ")
        stacks[tuple(frames.split(";"))] += int(count)
    return dict(stacks)


def own_shares(stacks: Stacks, most: int = 12) -> list[tuple[str, float]]:
    """The functions of ours under which the time was spent, innermost of each stack, with its share of all samples."""
    spent: Counter[str] = Counter()
    for frames, count in stacks.items():
        ours = [frame for frame in frames if _home(frame)]
        spent[ours[-1] if ours else "outside of our code"] += count
    total = sum(spent.values()) or 1
    return [(name, count / total) for name, count in spent.most_common(most)]


def package_shares(stacks: Stacks, most: int = 10) -> list[tuple[str, float]]:
    """The packages in whose own frames the time was spent: the innermost frame of each stack."""
    spent: Counter[str] = Counter()
    for frames, count in stacks.items():
        file = frames[-1].partition("(")[2].rpartition(":")[0]
        spent[file.partition("/")[0] or file] += count
    total = sum(spent.values()) or 1
    return [(name, count / total) for name, count in spent.most_common(most)]


def flame_svg(title: str, stacks: Stacks) -> str:
    """The flame graph, outermost frames at the top. Ours are coloured by room; hover for names and shares."""
    root = _Node("all")
    for frames, count in stacks.items():
        root.grow(frames, count)
    boxes: list[str] = []
    depth = _draw(root, 0.0, 1, _WIDTH / (root.samples or 1), root.samples or 1, boxes)
    height = (depth + 2) * _ROW
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="monospace" '
    style = 'font-size="11"><style>rect{stroke:#fff;stroke-width:.5}</style>'
    label = f'<text x="4" y="12">{escape(title)} ({root.samples} samples)</text>'
    return head + style + label + "".join(boxes) + "</svg>\n"


@dataclass
class _Node:
    name: str
    samples: int = 0
    below: "dict[str, _Node]" = field(default_factory=dict)

    def grow(self, frames: Sequence[str], count: int) -> None:
        node = self
        node.samples += count
        for frame in frames:
            node = node.below.setdefault(frame, _Node(frame))
            node.samples += count


def _draw(node: _Node, x: float, row: int, scale: float, total: int, boxes: list[str]) -> int:
    """Draws the node's children below it; the deepest row."""
    deepest = row
    for child in sorted(node.below.values(), key=lambda child: child.name):
        width = child.samples * scale
        if width >= _NARROWEST:
            boxes.append(_box(child, x, row, width, total))
            deepest = max(deepest, _draw(child, x, row + 1, scale, total, boxes))
        x += width
    return deepest


def _box(node: _Node, x: float, row: int, width: float, total: int) -> str:
    letters = int(width / _LETTER)
    text = f'<text x="{x + 2:.1f}" y="{row * _ROW + 12}">{escape(node.name[:letters])}</text>' if letters > 3 else ""
    colour = _COLOURS.get(_home(node.name), _FOREIGN)
    rect = f'<rect x="{x:.1f}" y="{row * _ROW}" width="{width:.1f}" height="{_ROW}" fill="{colour}"/>'
    return f"<g><title>{escape(node.name)} {node.samples / total:.1%}</title>{rect}{text}</g>"


def _home(frame: str) -> str:
    """The room of ours that a frame's file lies in, or nothing."""
    file = frame.partition("(")[2]
    return next((room for room in _OURS if file.startswith(room)), "")
