"""What a page of results says, and what it must never hide."""

import json
from pathlib import Path

from PIL import Image

from benchmarks.accuracy.pages import markdown, write
from benchmarks.accuracy.table import Figure, Heading, Row, Table

ONE, FIVE = Heading("5-way 1-shot", "inductive"), Heading("5-way 5-shot", "inductive")


def a_table(**changes: object) -> Table:
    rows = (
        Row("protonet", {ONE: Figure(98.2, 0.3, 600), FIVE: Figure(99.5, 0.1, 50, 600)}, {ONE: 98.8, FIVE: 99.7}),
        Row("maml", {ONE: Figure(90.0, 1.0, 600, 600)}, unfinished="40 of 60,000 steps"),
    )
    fields = {"title": "Omniglot", "metric": "accuracy in %", "headings": (ONE, FIVE), "rows": rows, "digits": 1}
    return Table(**(fields | changes))


def lines(table: Table) -> list[str]:
    return markdown(table, {"command": "python -m x"}, "omniglot.png").splitlines()


def test_figures_have_intervals_and_published_numbers_stand_below() -> None:
    page = lines(a_table())
    assert "|  | 5-way 1-shot, inductive | 5-way 5-shot, inductive |" in page
    place = page.index("| protonet | 98.2 ± 0.3 | 99.5 ± 0.1 (50 of 600) |")
    assert page[place + 1] == "| *published (ours minus published)* | *98.8 (-0.6)* | *99.7 (-0.2)* |"


def test_an_unfinished_training_is_named_as_such() -> None:
    assert "| maml (40 of 60,000 steps) | 90.0 ± 1.0 | - |" in lines(a_table())


def test_a_published_number_stands_alone_where_there_is_no_figure() -> None:
    page = lines(a_table(rows=(Row("matching", {}, {ONE: 98.1}),)))
    assert "| *published (ours minus published)* | *98.1* |  |" in page


def test_details_may_differ_in_what_they_name() -> None:
    page = lines(a_table(details=({"recipe": "maml", "steps": 3}, {"recipe": "ridge", "seconds": 5})))
    assert page[page.index("| recipe | steps | seconds |") + 2 :][:2] == ["| maml | 3 |  |", "| ridge |  | 5 |"]


def test_three_files_are_written(tmp_path: Path) -> None:
    write(tmp_path / "new" / "omniglot", a_table(notes=("A note.",)))
    page = (tmp_path / "new" / "omniglot.md").read_text()
    assert "- command: python -m" in page and "- machine: " in page and "A note." in page
    stored = json.loads((tmp_path / "new" / "omniglot.json").read_text())
    assert stored["rows"][0]["figures"][ONE.name] == {"mean": 98.2, "interval": 0.3, "count": 600, "asked": None}
    assert stored["rows"][1]["unfinished"] == "40 of 60,000 steps"
    with Image.open(tmp_path / "new" / "omniglot.png") as picture:
        assert picture.width > 400


def test_a_logarithmic_plot_of_many_panels_is_drawn(tmp_path: Path) -> None:
    headings = tuple(Heading(f"panel {i}") for i in range(5))
    figures = {heading: Figure(0.1 * (i + 1), 0.01, 10) for i, heading in enumerate(headings)}
    write(tmp_path / "plot", a_table(headings=headings, rows=(Row("a", figures),), logarithmic=True))
    assert (tmp_path / "plot.png").stat().st_size > 1000
