"""Checkpoints of one name, to be moved to and from."""

from datetime import UTC, datetime
from pathlib import Path

import torch

from kshot.checkpoints import Checkpoint, save_checkpoint
from kshot.contracts.checkpoints import EncoderSpec, LearnerSpec, Lineage, Manifest, VectorInput
from kshot.encoders.registry import build_encoder
from kshot.learners.registry import get_learner

NAME = "moving"


def version(
    learner: str = "protonet", *, width: int | None = None, blind: bool = False, name: str = NAME
) -> Checkpoint:
    """Takes vectors as they are; ``blind``: sees the same in all of them, so that no answer is better than a guess."""
    inputs = VectorInput(width=width)
    spec = EncoderSpec(name="mlp", options={"hidden": [8]}) if blind else EncoderSpec(name="identity")
    encoder = build_encoder(spec, inputs)
    with torch.no_grad():
        for weights in encoder.parameters():
            weights.zero_()
    head = get_learner(learner).init_head(encoder, "classification", None, torch.Generator().manual_seed(0))
    manifest = Manifest(
        name=name,
        description=f"{learner}, blind: {blind}",
        tasks=("classification", "regression") if learner == "ridge" else ("classification",),
        input=inputs,
        encoder=spec,
        learner=LearnerSpec(name=learner),
        lineage=Lineage(command="tests", code_version="0", created_at=datetime(2026, 1, 1, tzinfo=UTC)),
    )
    return Checkpoint(manifest, encoder.eval(), head)


def write_versions(root: Path, name: str = NAME) -> dict[str, Path]:
    """``first`` (protonet) and ``second`` (ridge), both good; ``blind``; ``narrow``, which takes vectors of 3 only."""
    versions = {
        "first": version(name=name),
        "second": version("ridge", name=name),
        "blind": version(width=4, blind=True, name=name),
        "narrow": version(width=3, name=name),
    }
    for label, checkpoint in versions.items():
        save_checkpoint(root / label, checkpoint)
    return {label: root / label for label in versions}
