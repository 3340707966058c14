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
from service.bodies.raw_inputs import Files, RawInputs, RawSupport, Tensor
from service.joint import is_joint
from service.labels import check_single, look_of
from service.meaning import Labels, check_counts, decode, decoded_bytes, read_joint, read_labels, read_query
from service.settings import Settings

_ANY_EXAMPLE = "an image, a text or a list of numbers"
MAX_CANDIDATES = 16
_MAX_NAMED = 10
_PICTURE = re.compile(r"data:[a-z]+/\S*|(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR|SUkqA|TU0AK)[A-Za-z0-9+/\s]+={0,2}")
"""A data URL, or base64 of what begins as PNG, JPEG, GIF, WebP or TIFF do: the reader of pictures refuses the latter
with a reason."""


@dataclass(frozen=True)
class OpenChoice:
    """What a worker chooses among.

    ``sent``: digest of the inputs as they came, which no promotion changes. ``query``: as it came, for a model that was
    made before, maybe with a checkpoint that takes another form than any candidate now.
    """

    candidates: tuple[Candidate, ...]
    others: tuple[Form, ...]
    sent: bytes
    query: RawInputs | None


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
    """Decode and check a support set for every checkpoint that takes it, the first MAX_CANDIDATES of them.

    Raises as `read_support`, and Invalid naming ``checkpoint`` where none does, or the option that all refuse.
    """
    check_counts(raw, _ANY_EXAMPLE, limits)
    labels = _labels(raw, options, limits)
    taking = [(one, learner) for one in promoted if (learner := _learner(one.manifest, raw.inputs, labels, options))]
    if not taking:
        _check_options(promoted, options, joint=labels.task == "multitask")
        raise Invalid(_none_fits(promoted, options), param="checkpoint")
    reading = [found for found in taking if query is None or _short_enough(found[0].manifest.input, query)]
    chosen = (reading or taking)[:MAX_CANDIDATES]  # where none reads the query, decoding it says why
    forms, places = _decoded(raw.inputs, query, [one.manifest.input for one, _ in chosen], limits, query_param)
    candidates = [
        Candidate(checkpoint=_ref(one), learner=learner, form=place)
        for (one, learner), place in zip(chosen, places, strict=True)
    ]
    choice = OpenChoice(tuple(candidates), tuple(forms[1:]), _digest(raw.inputs, query), query)
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
    return _short_enough(spec, inputs)


def _short_enough(spec: InputSpec, inputs: RawInputs) -> bool:
    """Whether no text is longer than the spec allows."""
    if not isinstance(spec, TextInput) or isinstance(inputs, Tensor):
        return True
    return all(_n_chars(item) <= spec.max_chars for item in inputs.items)


def _n_chars(item: object) -> int:
    """Of a text; anything else is refused when it is decoded."""
    if isinstance(item, bytes):
        return len(item.decode("utf-8", "replace"))
    return len(item) if isinstance(item, str) else 0


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
    """The distinct forms these specs ask for, and the place of each spec's among them."""
    distinct: dict[Hashable, InputSpec] = {}
    for spec in specs:
        distinct.setdefault(_form_of(spec), spec)
    _check_size(inputs, list(distinct.values()), "support.inputs", limits)
    if query is not None:
        _check_size(query, list(distinct.values()), query_param, limits)
    forms = []
    for spec in distinct.values():
        support = decode(inputs, spec, "support.inputs", limits)
        asked = None if query is None else read_query(query, spec, input_shape(support), limits, query_param)
        forms.append(Form(support, asked))
    places = list(distinct)
    return forms, [places.index(_form_of(spec)) for spec in specs]


def _check_size(inputs: RawInputs, specs: Sequence[InputSpec], param: str, limits: Settings) -> None:
    """All forms are in memory side by side."""
    size = sum(decoded_bytes(inputs, spec) for spec in specs)
    if len(specs) > 1 and size > limits.max_decoded_bytes:
        raise Invalid(
            f"these inputs take {size} bytes once decoded for checkpoints of {len(specs)} kinds; at most "
            f"{limits.max_decoded_bytes} are allowed: name a checkpoint in place of {AUTO}",
            param=param,
        )


def _form_of(spec: InputSpec) -> Hashable:
    """Specs of one form decode to the same: encoders normalise by themselves, widths and lengths were compared."""
    return spec.model_dump_json(
        exclude={"mean", "std"} if isinstance(spec, ImageInput) else {"width", "max_chars"}
    )  # fmt: skip


def _ref(checkpoint: StoredCheckpoint) -> CheckpointRef:
    return CheckpointRef(id=checkpoint.id, name=checkpoint.manifest.name, alias=PRODUCTION)


def _digest(inputs: RawInputs, query: RawInputs | None) -> bytes:
    digest = hashlib.sha256()
    inputs.update(digest)
    if query is not None:
        query.update(digest)
    return digest.digest()


def _check_options(promoted: Sequence[StoredCheckpoint], options: LearnerOptions, *, joint: bool) -> None:
    """Raises Invalid naming the option where all refuse these options, whatever the examples."""
    refusals: list[Invalid] = []
    for one in promoted:
        try:
            choose_learner(one.manifest, options, joint=joint)
            return
        except Invalid as error:
            refusals.append(Invalid(f"{one.manifest.name}: {error.message}", param=error.param))
    if refusals:
        raise refusals[0]


def _none_fits(promoted: Sequence[StoredCheckpoint], options: LearnerOptions) -> str:
    taken = [
        f"{one.manifest.name} takes {describe(one.manifest.input)} for {' or '.join(one.manifest.tasks)}"
        for one in promoted[:_MAX_NAMED]
    ]
    asked = " with these options" if options != LearnerOptions() else ""
    return f"{AUTO} finds no checkpoint in production for these examples{asked}: {'; '.join(taken) or 'there is none'}"
