"""Work folders of jobs on tiny data sets of every kind, as the trainer lays them out."""

import csv
import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kshot.contracts.checkpoints import Manifest, VectorInput
from kshot.contracts.datasets import DATASET_FILE, Columns, DatasetManifest, RecordedFrom
from kshot.contracts.job_bodies import NewJobRequest
from kshot.contracts.jobs import EVENTS_FILE, SPEC_FILE, JobEvent, JobSpec
from kshot.episodes.datasets import Asked, inspect
from kshot.episodes.recorded import RecordedTask, write_recorded
from kshot.planning.plan import minutes, plan

_RNG_SEED = 0


def drawings(folder: Path, classes: int = 20, examples: int = 6) -> DatasetManifest:
    """Greyscale pictures 20 x 20: dark bars on a light ground, one angle and place for each class."""
    return _uploaded(folder, "drawings", "drawings.zip", _pictures(classes, examples, "L"))


def photos(folder: Path, classes: int = 15, examples: int = 4) -> DatasetManifest:
    """Colour pictures 40 x 40."""
    return _uploaded(folder, "photos", "photos.zip", _pictures(classes, examples, "RGB"))


def texts(folder: Path, classes: int = 20, examples: int = 8) -> DatasetManifest:
    """Texts of two words of their class and a number."""
    rows = [(f"please {w} the {w}s number {i}", w) for w in map(_word, range(classes)) for i in range(examples)]
    return _uploaded(folder, "texts", "texts.csv", _table(["text", "label"], rows))


def vectors(folder: Path, classes: int = 20, examples: int = 10) -> DatasetManifest:
    """Vectors of width 6 around the centre of their class."""
    rng = np.random.default_rng(_RNG_SEED)
    rows = []
    for name in range(classes):
        centre = rng.normal(0, 3, 6)
        rows += [(*np.round(centre + rng.normal(0, 1, 6), 4), f"c{name:02}") for _ in range(examples)]
    return _uploaded(folder, "vectors", "vectors.csv", _table([*"abcdef", "label"], rows))


def table(folder: Path, rows: int = 80) -> DatasetManifest:
    """Four columns, a number and a class to predict from them, some of them missing."""
    rng = np.random.default_rng(_RNG_SEED)
    lines = []
    for i in range(rows):
        x = np.round(rng.normal(0, 1, 4), 4)
        lines.append((*x, round(float(x @ [1, 2, 0, 1]), 3) if i % 5 else "", "yes" if x[0] > 0 else "no"))
    columns = Columns(targets={"score": "regression", "kind": "classification"})
    return _uploaded(folder, "table", "table.csv", _table([*"abcd", "score", "kind"], lines), columns)


def curves(folder: Path) -> DatasetManifest:
    """The sinusoid family."""
    manifest = DatasetManifest(id="ds-curves", name="curves", format="sinusoid", modality="vector", task="regression")
    return _laid(folder, manifest)


def recorded(folder: Path, tasks: int = 20, rows: int = 9, ways: int | None = None) -> DatasetManifest:
    """Recorded tasks of two or three classes of vectors of width 5."""
    rng = np.random.default_rng(_RNG_SEED)
    found = []
    for number in range(tasks):
        labels = [f"l{i % (ways or 2 + number % 2)}" for i in range(rows)]
        inputs = np.stack([rng.normal(int(label[1:]) * 3, 1, 5) for label in labels]).astype(np.float32)
        found.append(RecordedTask(f"t{number:03}", inputs, labels=labels))
    return _recorded(folder, found, "classification")


def recorded_numbers(folder: Path, tasks: int = 20, rows: int = 12) -> DatasetManifest:
    """Recorded tasks of regression."""
    rng = np.random.default_rng(_RNG_SEED)
    found = []
    for number in range(tasks):
        inputs = rng.normal(0, 1, (rows, 5)).astype(np.float32)
        found.append(RecordedTask(f"t{number:03}", inputs, values=inputs[:, :1] * float(rng.normal())))
    return _recorded(folder, found, "regression")


KINDS: dict[str, Callable[[Path], DatasetManifest]] = {
    "drawings": drawings,
    "photos": photos,
    "texts": texts,
    "vectors": vectors,
    "table": table,
    "curves": curves,
    "recorded": recorded,
    "recorded_numbers": recorded_numbers,
}


def work_folder(
    work: Path,
    made: DatasetManifest,
    base: tuple[Manifest, Path] | None = None,
    spec: dict[str, Any] | None = None,
    **request: Any,
) -> JobSpec:
    """``job.json`` in a work folder whose ``data`` hold the data set already. ``base``: a checkpoint and its folder."""
    asked = NewJobRequest.model_validate({"dataset": made.name, "name": "mine", **request})
    recipe = plan(asked, made, base[0] if base else None)
    job = JobSpec(
        job="job-1",
        recipe=recipe,
        dataset=made.id,
        dataset_name=made.name,
        base_checkpoint="ckpt-1" if base else None,
        minutes=minutes(asked, recipe),
        workers=asked.workers_per_job,
    ).model_copy(update=spec or {})
    (work / "checkpoints" / "_out").mkdir(parents=True, exist_ok=True)
    if base is not None and not (work / "checkpoints" / base[0].name).exists():
        (work / "checkpoints" / base[0].name).symlink_to(base[1])
    (work / SPEC_FILE).write_text(job.model_dump_json())
    return job


def events(work: Path, kind: str | None = None) -> list[JobEvent]:
    """What the child said, of one kind or all."""
    file = work / EVENTS_FILE
    lines = file.read_text().splitlines() if file.exists() else []
    found = [JobEvent.model_validate_json(line) for line in lines]
    return [event for event in found if kind is None or event.kind == kind]


def _recorded(folder: Path, tasks: list[RecordedTask], task: Any) -> DatasetManifest:
    manifest = DatasetManifest(
        id=f"ds-{task}",
        name="recorded",
        format="recorded_tasks",
        modality="vector",
        task=task,
        file="data.safetensors",
        input=VectorInput(width=5),
        recorded=RecordedFrom(checkpoint="vectors", tenants=("tn-1",)),
    )
    made = _laid(folder, manifest)
    write_recorded(folder / "data" / manifest.id / "data.safetensors", tasks)
    return made


def _uploaded(
    folder: Path, name: str, filename: str, content: bytes, columns: Columns | None = None
) -> DatasetManifest:
    file = folder / filename
    folder.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    manifest = inspect(file, Asked(id=f"ds-{name}", name=name, filename=filename, columns=columns or Columns()))
    manifest = manifest.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    _laid(folder, manifest)
    assert manifest.file is not None
    file.rename(folder / "data" / manifest.id / manifest.file)
    return manifest


def _laid(folder: Path, manifest: DatasetManifest) -> DatasetManifest:
    own = folder / "data" / manifest.id
    own.mkdir(parents=True, exist_ok=True)
    (own / DATASET_FILE).write_text(manifest.model_dump_json())
    return manifest


def _pictures(classes: int, examples: int, mode: str) -> bytes:
    rng, side = np.random.default_rng(_RNG_SEED), 20 if mode == "L" else 40
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in range(classes):
            shape = rng.random((side // 4, side // 4)) > 0.7
            for i in range(examples):
                ink = np.kron(shape, np.ones((4, 4)))
                picture = (255 * (1 - 0.9 * np.roll(ink, rng.integers(-1, 2, 2), (0, 1)))).astype(np.uint8)
                content = io.BytesIO()
                tint = np.stack([picture, np.roll(picture, 5), 255 - picture], 2) if mode == "RGB" else picture
                Image.fromarray(tint).save(content, "PNG")
                archive.writestr(f"class{name:02}/{i}.png", content.getvalue())
    return buffer.getvalue()


def _table(header: list[str], rows: list[Any]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def _word(number: int) -> str:
    consonants, vowels = "bdfglmnprt", "aeiou"
    return "".join(consonants[(number + i) % 10] + vowels[(number // 2 + i) % 5] for i in range(3))
