"""What a request means to its checkpoint: inputs decoded, labels read, limits kept."""

from dataclasses import dataclass

import numpy as np

from kshot.contracts.checkpoints import ImageInput, InputSpec, Manifest, TextInput, VectorInput
from kshot.contracts.errors import Invalid
from kshot.contracts.methods import choose_learner
from kshot.contracts.tasks import LearnerOptions, SupportSet
from kshot.contracts.wire import Inputs
from kshot.inputs import describe, input_shape
from service.bodies.raw_inputs import RawInputs, RawSupport, Values
from service.labels import as_known, choose_task, class_targets, number_targets
from service.settings import Settings


@dataclass(frozen=True)
class Meaning:
    """A support set ready to be recorded."""

    learner: str
    support: SupportSet


def read_support(raw: RawSupport, manifest: Manifest, options: LearnerOptions, limits: Settings) -> Meaning:
    """Decode and check a support set. Raises Invalid naming the parameter; UnsupportedMediaType for odd images."""
    learner = choose_learner(manifest, options)
    _check_counts(raw, 0, manifest.input, limits)
    task = choose_task(manifest, learner, options, raw.labels, named=raw.named)
    if task == "classification":
        targets, classes = class_targets(raw.labels, limits.max_ways)
    else:
        targets, classes = number_targets(raw.labels, manifest.n_targets, named=raw.named), ()
    inputs = _decode(raw.inputs, manifest.input, "support.inputs", limits)
    return Meaning(learner, SupportSet(task, inputs, targets, classes))


def read_query(
    raw: RawInputs, spec: InputSpec, shape: tuple[int, ...], limits: Settings, param: str = "query.inputs"
) -> Inputs:
    """Decode and check inputs to answer; ``shape`` is what one input of the support looked like."""
    if len(raw) == 0:
        raise Invalid(f"no inputs; each is {describe(spec)}", param=param)
    if len(raw) > limits.max_query:
        raise Invalid(f"{len(raw)} inputs; at most {limits.max_query} are allowed", param=param)
    return _decode_alike(raw, spec, shape, param, limits)


def extend_support(parent: SupportSet, raw: RawSupport, manifest: Manifest, limits: Settings) -> SupportSet:
    """The parent's examples and these, in this order; classes new here come last. Raises as `read_support`."""
    _check_counts(raw, len(parent), manifest.input, limits)
    classes = parent.classes
    if parent.task == "classification":
        labels = as_known(raw.labels, classes) if raw.named else raw.labels
        added, classes = class_targets(labels, limits.max_ways, classes)
    else:
        added = number_targets(raw.labels, parent.targets.shape[1], named=raw.named)
    before = 0 if isinstance(parent.inputs, list) else parent.inputs.nbytes
    shape = input_shape(parent.inputs)
    inputs = _decode_alike(raw.inputs, manifest.input, shape, "support.inputs", limits, before)
    targets = np.concatenate([parent.targets, added])
    return SupportSet(parent.task, _joined(parent.inputs, inputs), targets, classes)


def _check_counts(raw: RawSupport, before: int, spec: InputSpec, limits: Settings) -> None:
    """As many labels as inputs, at least one, and with those ``before`` not too many."""
    n = len(raw.inputs)
    if n == 0:
        raise Invalid(f"no examples; each is {describe(spec)} with a label", param="support.inputs")
    if len(raw.labels) != n:
        raise Invalid(f"{n} inputs but {len(raw.labels)} labels; each input needs one", param="support.labels")
    if before + n > limits.max_support:
        together = f" with the parent's {before}" if before else ""
        raise Invalid(f"{n} examples{together}; at most {limits.max_support} are allowed", param="support.inputs")


def _decode_alike(
    raw: RawInputs, spec: InputSpec, shape: tuple[int, ...], param: str, limits: Settings, before: int = 0
) -> Inputs:
    """As `_decode`; vectors must be as wide as the support's (``shape``): other inputs have the shape of the spec."""
    if isinstance(spec, VectorInput):
        rows = raw.items if isinstance(raw, Values) else []
        for i, row in enumerate(rows):
            if isinstance(row, list) and row:
                _check_width(len(row), shape[0], f"{param}[{i}]")
    inputs = _decode(raw, spec, param, limits, before)
    if isinstance(spec, VectorInput):
        _check_width(input_shape(inputs)[0], shape[0], param)
    return inputs


def _check_width(found: int, wanted: int, param: str) -> None:
    if found != wanted:
        numbers = "1 number" if wanted == 1 else f"{wanted} numbers"
        raise Invalid(f"expected {numbers} for each input, as in the support; got {found}", param=param)


def _joined(first: Inputs, second: Inputs) -> Inputs:
    if isinstance(first, list):
        assert isinstance(second, list)
        return first + second
    assert not isinstance(second, list)
    return np.concatenate([first, second])


def _decode(raw: RawInputs, spec: InputSpec, param: str, limits: Settings, before: int = 0) -> Inputs:
    """``before``: bytes of inputs decoded earlier, which these will be joined to."""
    size = before + len(raw) * _bytes_per_input(raw, spec)
    if size > limits.max_decoded_bytes:
        allowed = limits.max_decoded_bytes
        raise Invalid(f"these inputs take {size} bytes once decoded; at most {allowed} are allowed", param=param)
    return raw.decode(spec, param)


def _bytes_per_input(raw: RawInputs, spec: InputSpec) -> int:
    """An upper bound that needs no decoding."""
    if isinstance(spec, ImageInput):
        return spec.height * spec.width * spec.channels
    if isinstance(spec, TextInput):
        return 0  # as long as the body, which has its own limit
    first = raw.items[0] if isinstance(raw, Values) else None
    return 4 * len(first) if isinstance(first, list) else 0
