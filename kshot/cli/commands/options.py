"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Source = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="A folder with one folder of PNG or JPEG pictures per class, a CSV file or an npz archive",
    ),
]
LabelColumn = Annotated[
    str | None, typer.Option(help="Column (npz: array) of the labels; guessed by its name: label, class, intent, ...")
]
TextColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of the texts (npz: array of the inputs); guessed: text, ..., else all others are numbers"
    ),
]
Task = Annotated[
    Literal["classification", "regression"] | None,
    typer.Option(help="What numbers as labels mean; guessed: values where one has a decimal point"),
]
Seed = Annotated[int, typer.Option(min=0, help="Of the draw; the same seed gives the same split")]
Described = Annotated[str, typer.Option("--description", help="For people")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job (job_...)")]
UploadedLabel = Annotated[
    str | None, typer.Option("--label-column", help="Of a file: column (npz: array) of the labels; guessed by its name")
]
UploadedText = Annotated[
    str | None, typer.Option("--text-column", help="Of a file: column of the texts; guessed by its name")
]
