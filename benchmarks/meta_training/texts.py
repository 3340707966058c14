"""From a CSV of texts to a model in production: `python -m benchmarks.meta_training.texts --data ../shared/data`.

Over HTTP alone: CLINC150 goes up as it is, with the published split of its intents; a job with default settings
meta-trains on the training intents, its checkpoint is promoted and adapted with on intents it never saw. Results go to
`benchmarks/results/meta_training_texts.json` and `.md`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.meta_training.flow import Case, run
from benchmarks.suites import SEED, Suite
from kshot.contracts.checkpoints import TextInput
from kshot.episodes.sampling import EpisodeShape, episodes
from kshot.training.data import load_pool


def _upload(data: Path) -> tuple[Path, dict[str, Any]]:
    splits = json.loads((data / "clinc150/fewshot_class_splits.json").read_text())["01"]
    columns = {"inputs": "text", "label": "intent"}
    return data / "clinc150/clinc150.csv", {"name": "clinc150", "columns": columns, "splits": splits}


def _suite(n_way: int, k_shot: int) -> Suite:
    return Suite(
        "intents",
        "clinc150, test intents",
        n_way,
        k_shot,
        None,
        lambda data: episodes(load_pool("clinc150", "test", data, TextInput()), EpisodeShape(n_way, k_shot, 15), SEED),
    )


def main() -> int:
    suites = tuple(_suite(n_way, k_shot) for n_way, k_shot in [(5, 1), (5, 5), (20, 5)])
    return run(__doc__ or "", Case(name="texts", upload=_upload, suites=suites, targets={}))


if __name__ == "__main__":
    sys.exit(main())
