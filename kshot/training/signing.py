"""Give a checkpoint its signature, or a new one: ``kshot/relations/signature.py`` says what that is for.

``python -m kshot.training.signing checkpoints/glyphs --data ../shared/data``
"""

import argparse
from pathlib import Path

from kshot.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from kshot.device import add_device_option, choose_device
from kshot.episodes.pool import Pool
from kshot.relations.signature import sign
from kshot.training.data import SINUSOIDS, load_pool


def signed(checkpoint: Checkpoint, pool: Pool) -> Checkpoint:
    """The same checkpoint with the signature that ``pool``, classes held out from its meta-training, gives it."""
    manifest = checkpoint.manifest.model_copy(update={"signature": sign(checkpoint.encoder, pool)})
    return Checkpoint(manifest, checkpoint.encoder, checkpoint.head)


def held_out(checkpoint: Checkpoint, data: Path) -> Pool | None:
    """The validation classes of the data set it was meta-trained on; None where that has no classes."""
    sources = [source.name for source in checkpoint.manifest.lineage.data if source.name != SINUSOIDS]
    if not sources or checkpoint.manifest.input.modality == "vector":
        return None
    return load_pool(sources[0], "valid", data, checkpoint.manifest.input)


def main(arguments: list[str] | None = None) -> None:
    """Sign the checkpoints named, in place."""
    parser = argparse.ArgumentParser(prog="python -m kshot.training.signing")
    parser.add_argument("checkpoints", type=Path, nargs="+", help="folders")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    add_device_option(parser)
    given = parser.parse_args(arguments)
    device = choose_device(given.device)
    for folder in given.checkpoints:
        checkpoint = load_checkpoint(folder, device)
        pool = held_out(checkpoint, given.data)
        if pool is not None:
            save_checkpoint(folder, signed(checkpoint, pool))


if __name__ == "__main__":
    main()
