"""``kshot predict``: a model's answers."""

import csv
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import typer

from kshot.cli.batches import answers_to
from kshot.cli.commands.options import LabelColumn, TextColumn
from kshot.cli.connection import connect
from kshot.cli.printing import data, say, show_json, table
from kshot.cli.scoring import Answer, in_words, score
from kshot.cli.sources.csv_files import Asked
from kshot.cli.sources.examples import Examples, Truth, shortened
from kshot.cli.sources.reading import read_questions
from kshot.client import Client, Model

Format = Literal["table", "csv", "json"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog='Example: kshot predict am_01ABC "where is my card?" --output json')(predict)


def predict(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Id of a model (am_...), as kshot adapt prints")],
    source: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...",
            help="Texts; or pictures; or one folder, CSV file, npz archive or .txt file with a text a line. "
            "Without any, or with -, lines of stdin",
        ),
    ] = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="How the answers are printed")] = "table",
    label_column: LabelColumn = None,
    text_column: TextColumn = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Probabilities of the k most probable classes only")] = None,
    reject_below: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="No label where the best probability is lower; counts as wrong"),
    ] = None,
) -> None:
    """Ask a model about texts, pictures or vectors; as many as there are, in several requests where needed.

    Where the labels are known (class folders, a column or array of labels) the accuracy is printed with its 95%
    interval: below a table, on stderr beside CSV, in the object of JSON.
    """
    client = connect(ctx)
    adapted = client.model(model).wait()
    questions = read_questions(source or [], _asked(client, adapted, label_column, text_column))
    for line in questions.said:
        say(line)

    def ask(batch: Examples) -> list[Answer]:
        return list(adapted.predict(batch.inputs, top_k=top_k, reject_below=reject_below).predictions)

    answers = answers_to(questions, ask, client.limits())
    truths = _truths(adapted, questions)
    _print(output, adapted.id, questions, answers, truths)


def _asked(client: Client, model: Model, label: str | None, text: str | None) -> Asked:
    """How a table is to be read for this model."""
    modality = None if model.checkpoint is None else client.checkpoint(model.checkpoint.id).input.modality
    task: Literal["classification", "regression"] = "classification" if model.classes else "regression"
    return Asked(label, text, None if model.targets else task, modality)


def _truths(model: Model, questions: Examples) -> Sequence[Truth | None] | None:
    """The known labels; None where there are none, or none of them is a class that the model was taught."""
    truths = questions.labels
    if truths is None or not model.classes:
        return truths
    known = {str(label) for label in model.classes}
    strange = {str(truth) for truth in truths if truth is not None} - known
    if strange and not any(str(truth) in known for truth in truths):
        say(f"no label here is a class of the model, so they are not compared: {', '.join(sorted(strange)[:5])}")
        return None
    if strange:
        say(f"{len(strange)} labels are no class of the model and count as wrong: {', '.join(sorted(strange)[:5])}")
    return truths


def _print(
    output: Format, model: str, questions: Examples, answers: list[Answer], truths: Sequence[Truth | None] | None
) -> None:
    figures = None if truths is None else score(answers, truths)
    rows = [
        {"input": name, **answer, **({} if truths is None else {"truth": truths[place]})}
        for place, (name, answer) in enumerate(zip(questions.names, answers, strict=True))
    ]
    if output == "json":
        show_json({"model": model, "predictions": rows, "score": figures})
        return
    columns = ["input", *_columns(answers), *([] if truths is None else ["truth"])]
    cells = [[_cell(row, column) for column in columns] for row in rows]
    if output == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerows([columns, *cells])
    else:
        table(columns, ([shortened(str(name)), *cell] for name, *cell in cells))
    if figures is not None:
        (say if output == "csv" else data)(f"\n{in_words(figures)}" if output == "table" else in_words(figures))


def _columns(answers: list[Answer]) -> list[str]:
    """What an answer is made of: a class and its probability, a value and its deviation, or one of these a target."""
    first = answers[0]
    if "targets" in first:
        return list(first["targets"])
    if "label" in first:
        return ["label", "probability"]
    return ["value", "std"] if "std" in first else ["value"]


def _cell(row: dict[str, Any], column: str) -> object:
    if column == "probability":
        return round(max(row["probabilities"].values()), 4)
    if column in row.get("targets", {}):
        answer = row["targets"][column]
        return answer.get("label", answer.get("value"))
    found = row.get(column)
    return round(found, 6) if isinstance(found, float) else found
