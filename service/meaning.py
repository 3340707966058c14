"""What a request means to its checkpoint: inputs decoded, labels read, limits kept."""

from dataclasses import dataclass, replace

import numpy as np

from kshot.contracts.checkpoints import ImageInput, InputSpec, Manifest, TaskKind, TextInput, VectorInput
from kshot.contracts.errors import Invalid
from kshot.contracts.methods import choose_learner
from kshot.contracts.tasks import Label, LearnerOptions, SupportSet, TargetKind, TargetSpec
from kshot.contracts.wire import Array, Inputs
from kshot.inputs import describe, input_shape
from service.bodies.raw_inputs import RawInputs, RawSupport, Values
from service.joint import is_joint, joint_targets, widened
from service.labels import as_known, choose_task, class_targets, number_targets
from service.settings import Settings


@dataclass(frozen=True)
class Meaning:
    """A support set ready to be recorded."""

    learner: str
    support: SupportSet


@dataclass(frozen=True)
class Labels:
    """Labels as a learner takes them; see SupportSet."""

    task: TaskKind
    targets: Array
    classes: tuple[Label, ...] = ()
    columns: tuple[TargetSpec, ...] = ()

    def of(self, inputs: Inputs) -> SupportSet:
        """The support set of these labels and inputs."""
        return SupportSet(self.task, inputs, self.targets, self.classes, self.columns)


def read_support(raw: RawSupport, manifest: Manifest, options: LearnerOptions, limits: Settings) -> Meaning:
    """Decode and check a support set. Raises Invalid naming the parameter; UnsupportedMediaType for odd images."""
    joint = is_joint(raw.labels)
    learner = choose_learner(manifest, options, joint=joint)
    check_counts(raw, describe(manifest.input), limits)
    if joint:
        integers: TargetKind = "regression" if manifest.tasks == ("regression",) else "classification"
        labels = read_joint(raw, options, limits, integers)
    else:
        task = choose_task(manifest, learner, options, raw.labels, named=raw.named)
        labels = read_labels(raw, task, manifest.n_targets, limits)
    return Meaning(learner, labels.of(decode(raw.inputs, manifest.input, "support.inputs", limits)))


def read_labels(raw: RawSupport, task: TaskKind, n_targets: int | None, limits: Settings) -> Labels:
    """Labels of one target. Raises Invalid."""
    if task == "classification":
        return Labels(task, *class_targets(raw.labels, limits.max_ways))
    return Labels(task, number_targets(raw.labels, n_targets, named=raw.named))


def read_joint(
    raw: RawSupport, options: LearnerOptions, limits: Settings, integers: TargetKind = "classification"
) -> Labels:
    """Labels of several targets. Raises Invalid."""
    if options.task not in (None, "multitask"):
        raise Invalid(
            "labels that are objects make a multitask; say the kind of each in options.targets", param="options.task"
        )
    targets, columns = joint_targets(raw.labels, limits.max_ways, kinds=options.targets, integers=integers)
    _check_joint_labels(len(targets), len(columns), limits)
    return Labels("multitask", targets, columns=columns)


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
    check_counts(raw, describe(manifest.input), limits, len(parent))
    before_them, added = parent.targets, _added_labels(parent, raw, limits)
    if parent.task == "multitask":
        _check_joint_labels(len(parent) + len(added.targets), len(added.columns), limits)
        before_them = widened(parent.targets, len(added.columns))
    before = 0 if isinstance(parent.inputs, list) else parent.inputs.nbytes
    shape = input_shape(parent.inputs)
    inputs = _decode_alike(raw.inputs, manifest.input, shape, "support.inputs", limits, before)
    together = replace(added, targets=np.concatenate([before_them, added.targets]))
    return together.of(_joined(parent.inputs, inputs))


def _added_labels(parent: SupportSet, raw: RawSupport, limits: Settings) -> Labels:
    if parent.task == "multitask":
        if raw.named:
            message = "this model has several targets, and a part's name holds one label; send JSON"
            raise Invalid(message, param="support")
        targets, columns = joint_targets(raw.labels, limits.max_ways, known=parent.columns)
        return Labels(parent.task, targets, columns=columns)
    if parent.task == "classification":
        names = as_known(raw.labels, parent.classes) if raw.named else raw.labels
        return Labels(parent.task, *class_targets(names, limits.max_ways, parent.classes))
    return Labels(parent.task, number_targets(raw.labels, parent.targets.shape[1], named=raw.named))


def check_counts(raw: RawSupport, example: str, limits: Settings, before: int = 0) -> None:
    """As many labels as inputs, at least one (``example`` says what one looks like), and with those ``before`` not too
    many. Raises Invalid."""
    n = len(raw.inputs)
    if n == 0:
        raise Invalid(f"no examples; each is {example} with a label", param="support.inputs")
    if len(raw.labels) != n:
        raise Invalid(f"{n} inputs but {len(raw.labels)} labels; each input needs one", param="support.labels")
    if before + n > limits.max_support:
        together = f" with the parent's {before}" if before else ""
        raise Invalid(f"{n} examples{together}; at most {limits.max_support} are allowed", param="support.inputs")


def _check_joint_labels(n: int, n_targets: int, limits: Settings) -> None:
    """Each target costs as much as a support of its own. Raises Invalid."""
    if n * n_targets > limits.max_joint_labels:
        message = f"{n} examples times {n_targets} targets; at most {limits.max_joint_labels} are allowed"
        raise Invalid(f"{message}: send fewer examples, or some of the targets at a time", param="support.labels")


def _decode_alike(
    raw: RawInputs, spec: InputSpec, shape: tuple[int, ...], param: str, limits: Settings, before: int = 0
) -> Inputs:
    """As `decode`; vectors must be as wide as the support's (``shape``): other inputs have the shape of the spec."""
    if isinstance(spec, VectorInput):
        rows = raw.items if isinstance(raw, Values) else []
        for i, row in enumerate(rows):
            if isinstance(row, list) and row:
                _check_width(len(row), shape[0], f"{param}[{i}]")
    inputs = decode(raw, spec, param, limits, before)
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


def decode(raw: RawInputs, spec: InputSpec, param: str, limits: Settings, before: int = 0) -> Inputs:
    """Canonical inputs. ``before``: bytes of inputs decoded earlier, which will be in memory beside them."""
    size = before + decoded_bytes(raw, spec)
    if size > limits.max_decoded_bytes:
        allowed = limits.max_decoded_bytes
        raise Invalid(f"these inputs take {size} bytes once decoded; at most {allowed} are allowed", param=param)
    return raw.decode(spec, param)


def decoded_bytes(raw: RawInputs, spec: InputSpec) -> int:
    """What these inputs take once decoded, at most; needs no decoding."""
    if isinstance(spec, ImageInput):
        return len(raw) * spec.height * spec.width * spec.channels
    if isinstance(spec, TextInput):
        return 0  # as long as the body, which has its own limit
    first = raw.items[0] if isinstance(raw, Values) and raw.items else None
    return 4 * len(raw) * len(first) if isinstance(first, list) else 0
