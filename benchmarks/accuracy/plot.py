"""The plot of a table: one field per panel, one line per row, a point with its 95% interval per variant."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from benchmarks.accuracy.table import Table

_COLOURS = ("#1b6ca8", "#d1495b", "#3b8b5d", "#8a5fbf", "#c98a1b", "#555555")
_SPREAD = 0.5  # of the height of a line, shared by the variants
_COLUMNS = 4


def draw(file: Path, table: Table) -> None:
    """Write the plot as PNG. Open circles: weights not trained to the end; black bars: published figures."""
    panels = list(dict.fromkeys(heading.panel for heading in table.headings))
    variants = list(dict.fromkeys(heading.variant for heading in table.headings))
    across = min(len(panels), _COLUMNS)
    down = -(-len(panels) // across)
    line = 0.22 + 0.07 * len(variants)  # inches
    sheet = Sheet(figsize=(2.2 + 2.8 * across, 0.8 + down * (0.9 + line * len(table.rows))), layout="constrained")
    fields = sheet.subplots(down, across, squeeze=False, sharey=True, sharex=table.logarithmic).reshape(-1)
    for field, panel in zip(fields, panels, strict=False):
        _draw_panel(field, table, panel, variants)
    for field in fields[len(panels) :]:
        field.set_visible(False)
    sheet.suptitle(f"{table.title}: {table.metric}")
    legend = _legend(variants, any(row.published for row in table.rows))
    sheet.legend(handles=legend, loc="outside lower center", ncols=min(4, len(legend)), frameon=False)
    sheet.savefig(file, dpi=110, metadata={"Software": None})


def _draw_panel(field: Axes, table: Table, panel: str, variants: list[str]) -> None:
    places = {heading: variants.index(heading.variant) for heading in table.headings if heading.panel == panel}
    for line, row in enumerate(table.rows):
        for heading, place in places.items():
            height = line + _SPREAD * ((place + 0.5) / len(variants) - 0.5)
            figure, colour = row.figures.get(heading), _COLOURS[place % len(_COLOURS)]
            if figure is not None:
                fill = "white" if row.unfinished or not figure.finished else colour
                field.errorbar(
                    figure.mean, height, xerr=figure.interval, fmt="o", color=colour, mfc=fill, markersize=5, capsize=2
                )
            if heading in row.published:
                field.plot(row.published[heading], height, marker="|", color="black", markersize=11)
    field.set_title(panel, fontsize=10)
    field.set_yticks(range(len(table.rows)), [row.name for row in table.rows])
    field.set_ylim(len(table.rows) - 0.5, -0.5)
    field.grid(axis="x", alpha=0.3)
    if table.logarithmic:
        field.set_xscale("log")
        field.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        field.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        field.xaxis.set_minor_formatter(NullFormatter())


def _legend(variants: list[str], published: bool) -> list[Line2D]:
    own = [
        Line2D([], [], marker="o", linestyle="", color=_COLOURS[i % len(_COLOURS)], label=variant or "kshot")
        for i, variant in enumerate(variants)
    ]
    theirs = Line2D([], [], marker="|", linestyle="", color="black", markersize=11, label="published")
    return [*own, theirs] if published else own
