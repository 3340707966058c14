"""From a zip of drawings to a model in production: `python -m benchmarks.meta_training.drawings --data ../shared/data`.

Over HTTP alone: Omniglot's training characters go up as a zip of picture folders, a job with default settings
meta-trains on them, its checkpoint is promoted and adapted with on characters it never saw. Results go to
`benchmarks/results/meta_training_drawings.json` and `.md`.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.meta_training.flow import Case, run
from benchmarks.meta_training.uploads import drawings_zip
from benchmarks.suites import SUITES


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        return run(
            __doc__ or "",
            Case(
                name="drawings",
                upload=lambda data: (drawings_zip(data, Path(folder) / "drawings.zip"), {"name": "omniglot-drawings"}),
                suites=tuple(suite for suite in SUITES if suite.checkpoint == "glyphs"),
                targets={"glyphs 5-way 1-shot": 0.97},
            ),
        )


if __name__ == "__main__":
    sys.exit(main())
