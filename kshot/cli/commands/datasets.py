"""``kshot datasets``: what checkpoints are meta-trained on."""

from pathlib import Path
from typing import Annotated

import typer

from kshot.cli.commands.options import Described, UploadedLabel, UploadedText
from kshot.cli.connection import connect
from kshot.cli.describing import size_in_words
from kshot.cli.printing import AsJson, facts, say, show_json, table
from kshot.cli.uploading import name_for, upload
from kshot.contracts.dataset_bodies import Dataset

datasets = typer.Typer(no_args_is_help=True, help="Data sets to train on (administrators): list, upload, show, delete.")
_Which = Annotated[str, typer.Argument(metavar="DATASET", help="Id (ds_...) or name of a data set")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(datasets, name="datasets")


@datasets.command("list", epilog="Example: kshot datasets list")
def list_all(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List data sets, newest first."""
    found = list(connect(ctx).datasets())
    if as_json:
        show_json(found)
        return
    rows = ([one.name, one.format, one.n_examples, _classes(one), one.created_at, one.id] for one in found)
    columns = ["name", "format", "examples", "classes", "created", "id"]
    table(columns, rows, "no data sets yet: kshot datasets upload FILE")


@datasets.command("upload", epilog="Example: kshot datasets upload letters/ --name letters")
def upload_one(
    ctx: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A folder of class folders or a zip of one, CSV or JSON lines of texts, npz or CSV of vectors",
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="Lower-case letters, digits, hyphens; by default after the file")
    ] = None,
    described: Described = "",
    label_column: UploadedLabel = None,
    text_column: UploadedText = None,
    as_json: AsJson = False,
) -> None:
    """Upload a data set. The service reads all of it, and splits its classes into training, validation and test."""
    dataset = upload(connect(ctx), source, name or name_for(source), label_column, text_column, described)
    _print(dataset, as_json)


@datasets.command(epilog="Example: kshot datasets show letters")
def show(ctx: typer.Context, dataset: _Which, as_json: AsJson = False) -> None:
    """Show a data set: what it holds, how it is split, and who uses it."""
    _print(connect(ctx).dataset(dataset), as_json)


@datasets.command(epilog="Example: kshot datasets delete letters")
def delete(ctx: typer.Context, dataset: _Which) -> None:
    """Delete a data set. Checkpoints made from it stay; refused while an open job or promotion needs it."""
    connect(ctx).delete_dataset(dataset)
    say(f"{dataset} is deleted")


def _print(dataset: Dataset, as_json: bool) -> None:
    if as_json:
        show_json(dataset)
        return
    parts = {
        part: f"{count.n_examples} examples" + ("" if count.n_classes is None else f" of {count.n_classes} classes")
        for part, count in dataset.counts.items()
    }
    facts(
        {
            "id": dataset.id,
            "name": dataset.name,
            "description": dataset.description,
            "format": dataset.format,
            "task": dataset.task,
            "examples": dataset.n_examples,
            **parts,
            "smallest class": dataset.smallest,
            "size": size_in_words(dataset.bytes),
            "created": dataset.created_at,
            "used by": dataset.used_by,
        }
    )


def _classes(dataset: Dataset) -> int | None:
    counts = [part.n_classes for part in dataset.counts.values() if part.n_classes is not None]
    return sum(counts) if counts else None
