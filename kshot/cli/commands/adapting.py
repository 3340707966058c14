"""``kshot adapt``: a model from labelled examples."""

from typing import Annotated, Any

import typer

from kshot.cli.batches import answers_to, batches, naming
from kshot.cli.commands.options import LabelColumn, Seed, Source, Task, TextColumn
from kshot.cli.connection import connect
from kshot.cli.describing import model_facts
from kshot.cli.naming import modality_of
from kshot.cli.printing import AsJson, facts, plain, say, show_json
from kshot.cli.scoring import Answer, score
from kshot.cli.sources.csv_files import Asked
from kshot.cli.sources.examples import Examples, WrongUse, task_of
from kshot.cli.sources.reading import read_labelled
from kshot.cli.splitting import split
from kshot.client import Client, Model
from kshot.contracts.api import Limits
from kshot.contracts.errors import KshotError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: kshot adapt banking.csv --checkpoint intents --shots 5")(adapt)


def adapt(
    ctx: typer.Context,
    source: Source,
    checkpoint: Annotated[
        str, typer.Option(help="A checkpoint's name, name@alias or id; auto takes what suits the examples best")
    ] = "auto",
    label_column: LabelColumn = None,
    text_column: TextColumn = None,
    task: Task = None,
    holdout: Annotated[
        float | None, typer.Option(min=0.01, max=0.99, help="Keep this share of each class back, and measure on it")
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(min=1, help="Learn from so many examples of each class, and measure on the others"),
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Teach a model from labelled examples, and say how good it is.

    Prints the model's id, which `kshot predict` takes, and its quality: by leaving out its own examples in turn, and
    on examples kept back where --holdout or --shots say so.
    """
    client = connect(ctx)
    modality = modality_of(client, checkpoint)
    examples = read_labelled(source, Asked(label_column, text_column, task, modality))
    for line in examples.said:
        say(line)
    support, back = split(examples, holdout, shots, seed)
    limits = client.limits()
    model = _teach(client, checkpoint, support, limits, task)
    held_out = None if back is None else _measure(model, back, limits)
    if as_json:
        show_json({**plain(model), "held_out": held_out})
        return
    facts(model_facts(model, held_out))
    say(f"\nAsk it: kshot predict {model.id} SOURCE")


def _teach(client: Client, checkpoint: str, support: Examples, limits: Limits, task: str | None) -> Model:
    """The model. What does not fit into one request goes as several: each adds examples to the model before."""
    labels = support.known_labels()
    if len(support) > limits.max_support:
        most = limits.max_support // max(len(set(map(str, labels))), 1)
        how = f"--shots {most}" if task_of(labels) == "classification" and most else f"--shots {limits.max_support}"
        raise WrongUse(f"{len(support)} examples, and {limits.max_support} is the most of one model: {how} takes fewer")
    model: Model | None = None
    for part in batches(_mixed(support), limits.max_support, limits):
        try:
            if model is None:
                options = None if task is None else {"task": task}
                model = client.adapt(checkpoint, part.inputs, part.known_labels(), options=options)
            else:
                before, model = model, model.add_examples(part.inputs, part.known_labels())
                before.delete()
        except KshotError as error:
            raise naming(error, part) from None
    assert model is not None
    return model


def _mixed(support: Examples) -> Examples:
    """The examples with the classes taking turns, so that the first of several requests has all of them."""
    turns: dict[str, int] = {}
    places = []
    for row, label in enumerate(support.known_labels()):
        turn = turns[str(label)] = turns.get(str(label), -1) + 1
        places.append((turn, row))
    return support.take([row for _, row in sorted(places)])


def _measure(model: Model, back: Examples, limits: Limits) -> dict[str, Any] | None:
    """Figures on examples that were kept back."""

    def ask(batch: Examples) -> list[Answer]:
        return list(model.predict(batch.inputs, top_k=1 if model.classes else None).predictions)

    return score(answers_to(back, ask, limits), back.labels or [])
