"""Checkpoint "auto": the checkpoints in production that take these examples, and the examples in the form of each."""

import hashlib
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from kshot.contracts.checkpoints import ImageInput, InputSpec, Manifest, TextInput, VectorInput
from kshot.contracts.errors import Invalid
from kshot.contracts.methods import choose_learner, possible_tasks
from kshot.contracts.selection import AUTO, Candidate, CheckpointRef
from kshot.contracts.tasks import Form, LearnerOptions, SupportSet
from kshot.contracts.wire import Inputs
from kshot.inputs import describe, input_shape
from kshot.storage.checkpoints import PRODUCTION, StoredCheckpoint
from service.bodies.raw_inputs import Files, RawInputs, RawSupport, Tensor, Values
from service.joint import is_joint
from service.labels import check_single, look_of
from service.meaning import Labels, check_counts, decode, read_joint, read_labels, read_query
from service.settings import Settings

_ANY_EXAMPLE = "an image, a text or a list of numbers"
_MAX_NAMED = 10
_PICTURE = re.compile(r"data:[a-z]+/\S*|(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR|SUkqA|TU0AK)[A-Za-z0-9+/\s]+={0,2}")
"""A data URL, or base64 of what begins as PNG, JPEG, GIF, WebP or TIFF do: the reader of pictures refuses the latter
with a reason."""


@dataclass(frozen=True)
class OpenChoice:
    """What a worker chooses among. ``sent``: digest of the inputs as they came, which no promotion changes."""

    candidates: tuple[Candidate, ...]
    others: tuple[Form, ...]
    sent: bytes


@dataclass(frozen=True)
class OpenMeaning:
    """A support set and a query in the form of the first candidates, and the choice they leave."""

    support: SupportSet
    query: Inputs | None
    choice: OpenChoice


def read_open(
    raw: RawSupport,
    query: RawInputs | None,
    promoted: Sequence[StoredCheckpoint],
    options: LearnerOptions,
    limits: Settings,
    query_param: str = "query.inputs",
) -> OpenMeaning:
    """Decode and check a support set for every checkpoint that takes it. Raises as `read_support`, and Invalid naming
    ``checkpoint`` where none does."""
    check_counts(raw, _ANY_EXAMPLE, limits)
    labels = _labels(raw, options, limits)
    chosen = [(one, learner) for one in promoted if (learner := _learner(one.manifest, raw.inputs, labels, options))]
    if not chosen:
        raise Invalid(_none_fits(promoted, options), param="checkpoint")
    forms, places = _decoded(raw.inputs, query, [one.manifest.input for one, _ in chosen], limits, query_param)
    candidates = [
        Candidate(checkpoint=_ref(one), learner=learner, form=place)
        for (one, learner), place in zip(chosen, places, strict=True)
    ]
    choice = OpenChoice(tuple(candidates), tuple(forms[1:]), _digest(raw.inputs, query))
    return OpenMeaning(labels.of(forms[0].inputs), forms[0].query, choice)


def _labels(raw: RawSupport, options: LearnerOptions, limits: Settings) -> Labels:
    """Read as they look: no checkpoint is there yet to say what integers mean."""
    if is_joint(raw.labels):
        return read_joint(raw, options, limits)
    check_single(options)
    return read_labels(raw, options.task or look_of(raw.labels, named=raw.named), None, limits)


def _learner(manifest: Manifest, inputs: RawInputs, labels: Labels, options: LearnerOptions) -> str | None:
    """What this checkpoint would adapt with; None where it does not take such examples, or not such options."""
    joint = labels.task == "multitask"
    if not _takes(manifest.input, inputs):
        return None
    try:
        learner = choose_learner(manifest, options, joint=joint)
    except Invalid:
        return None
    if not joint and labels.task not in possible_tasks(manifest, learner):
        return None
    if labels.task == "regression" and manifest.n_targets not in (None, labels.targets.shape[1]):
        return None
    return learner


def _takes(spec: InputSpec, inputs: RawInputs) -> bool:
    """Whether inputs like the first are what the spec asks for. The others are checked when they are decoded."""
    if spec.modality != _modality(inputs):
        return False
    if isinstance(spec, VectorInput):
        return spec.width in (None, _width(inputs))
    if isinstance(spec, ImageInput) and isinstance(inputs, Tensor):
        return inputs.array.shape[1:] == (spec.height, spec.width, spec.channels)
    if isinstance(spec, TextInput) and isinstance(inputs, Values):
        return all(len(text) <= spec.max_chars for text in inputs.items if isinstance(text, str))
    return True


def _modality(inputs: RawInputs) -> Literal["image", "vector", "text"]:
    if isinstance(inputs, Tensor):
        return "image" if inputs.array.ndim == 4 else "vector"
    if isinstance(inputs, Files):
        return "text" if _is_utf8(inputs.items[0]) else "image"
    first = inputs.items[0]
    if isinstance(first, str):
        return "image" if _PICTURE.fullmatch(first) else "text"
    if isinstance(first, list):
        return "vector"
    raise Invalid(f"expected {_ANY_EXAMPLE}", param="support.inputs[0]")


def _is_utf8(file: bytes) -> bool:
    try:
        file.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _width(inputs: RawInputs) -> int:
    first = inputs.array.shape[1:] if isinstance(inputs, Tensor) else inputs.items[0]
    return int(first[0]) if isinstance(first, tuple) and first else len(first) if isinstance(first, list) else 0


def _decoded(
    inputs: RawInputs, query: RawInputs | None, specs: Sequence[InputSpec], limits: Settings, query_param: str
) -> tuple[list[Form], list[int]]:
    """The distinct forms these specs ask for, and the place of each spec's among them; all count against one limit."""
    forms: list[Form] = []
    known: dict[Hashable, int] = {}
    size = 0
    for spec in specs:
        if _form_of(spec) in known:
            continue
        known[_form_of(spec)] = len(forms)
        support = decode(inputs, spec, "support.inputs", limits, size)
        size += _bytes(support)
        asked = None
        if query is not None:
            asked = read_query(query, spec, input_shape(support), limits, query_param, size)
            size += _bytes(asked)
        forms.append(Form(support, asked))
    return forms, [known[_form_of(spec)] for spec in specs]


def _form_of(spec: InputSpec) -> Hashable:
    """Specs of one form decode to the same arrays: encoders normalise by themselves, and widths were compared."""
    if isinstance(spec, ImageInput):
        return (spec.height, spec.width, spec.channels, spec.fit, spec.invert)
    return (spec.modality, spec.max_chars if isinstance(spec, TextInput) else None)


def _bytes(inputs: Inputs) -> int:
    return 0 if isinstance(inputs, list) else inputs.nbytes


def _ref(checkpoint: StoredCheckpoint) -> CheckpointRef:
    return CheckpointRef(id=checkpoint.id, name=checkpoint.manifest.name, alias=PRODUCTION)


def _digest(inputs: RawInputs, query: RawInputs | None) -> bytes:
    digest = hashlib.sha256()
    inputs.update(digest)
    if query is not None:
        query.update(digest)
    return digest.digest()


def _none_fits(promoted: Sequence[StoredCheckpoint], options: LearnerOptions) -> str:
    taken = [
        f"{one.manifest.name} takes {describe(one.manifest.input)} for {' or '.join(one.manifest.tasks)}"
        for one in promoted[:_MAX_NAMED]
    ]
    asked = " with these options" if options != LearnerOptions() else ""
    return f"{AUTO} finds no checkpoint in production for these examples{asked}: {'; '.join(taken) or 'there is none'}"
