"""``kshot train``: a checkpoint of one's own."""

from pathlib import Path
from typing import Annotated

import typer

from kshot.cli.commands.jobs import print_job
from kshot.cli.commands.options import Described, UploadedLabel, UploadedText
from kshot.cli.connection import connect
from kshot.cli.printing import AsJson, say
from kshot.cli.refusals import Exit
from kshot.cli.sources.examples import WrongUse
from kshot.cli.uploading import name_for, upload
from kshot.cli.watching import watch
from kshot.client import Client
from kshot.contracts.dataset_bodies import Dataset


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: kshot train letters.zip --name letters --minutes 10")(train)


def train(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Id or name of a data set; or a file or folder to upload",
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Of the checkpoint; by default that of the data set")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="How long to train; by default as suits the data")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.02, help="How long to train, instead of --steps")] = None,
    encoder: Annotated[
        str | None, typer.Option(help="conv4, resnet12, mlp, text, image, ...; chosen to suit the data")
    ] = None,
    learner: Annotated[str | None, typer.Option(help="protonet, maml, ridge, ...; chosen to suit the data")] = None,
    base: Annotated[str | None, typer.Option(help="Begin at the encoder of this checkpoint, not at random")] = None,
    label_column: UploadedLabel = None,
    text_column: UploadedText = None,
    described: Described = "",
    seed: Annotated[int, typer.Option(min=0, help="The same seed and number of threads give the same weights")] = 0,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Watch it until it has ended, or only start it")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Meta-train a checkpoint on a data set (administrators), and watch it: step, loss, time left.

    No name in production moves; kshot promote does that. Ctrl-C stops the watching, not the job.
    """
    client = connect(ctx)
    dataset = _dataset(client, source, label_column, text_column)
    job = client.train(
        dataset.id,
        name or dataset.name,
        steps=steps,
        time_budget=None if minutes is None else minutes * 60,
        encoder=encoder,
        learner=learner,
        base_checkpoint=base,
        description=described or None,
        seed=seed,
    )
    say(f"job {job.id} trains {job.name} on {dataset.name}")
    if wait:
        job = watch(job)
    print_job(job, as_json)
    if job.status == "succeeded" and job.checkpoint is not None and not as_json:
        say(f"\nLet callers get it: kshot promote {job.name} {job.checkpoint}")
    if job.status in ("failed", "cancelled"):
        raise typer.Exit(Exit.FAILED)


def _dataset(client: Client, source: str, label: str | None, text: str | None) -> Dataset:
    """The data set of this id or name, or made of this file."""
    file = Path(source)
    if not file.exists():
        if file.suffix or len(file.parts) > 1:  # no name of a data set has dots or slashes
            raise WrongUse(f"there is no file or folder {source}")
        return client.dataset(source)
    dataset = upload(client, file, name_for(file), label, text)
    say(f"uploaded {file} as {dataset.name} ({dataset.n_examples} examples)")
    return dataset
