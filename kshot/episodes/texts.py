"""Labelled texts in a CSV file."""

import csv
import io
from pathlib import Path

from kshot.contracts.errors import Invalid, TooLarge
from kshot.episodes.pool import Pool, pool_from_labels

_MOST_ROWS = 2_000_000


def read_text_csv(source: bytes | Path, text: str = "text", label: str = "label") -> Pool:
    """A pool from UTF-8 CSV with a header; ``text`` and ``label`` name the two columns. Rows without text are skipped.

    Raises Invalid where a column is missing, the file is not UTF-8 CSV, or no row is left; TooLarge over 2 million
    rows.
    """
    try:
        content = (source if isinstance(source, bytes) else source.read_bytes()).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
        missing = {text, label} - set(reader.fieldnames or ())
        if missing:
            raise Invalid(f"the CSV file has no column {', '.join(sorted(missing))}")
        texts, labels = [], []
        for number, row in enumerate(reader):
            if number >= _MOST_ROWS:
                raise TooLarge(f"the CSV file has more than {_MOST_ROWS} rows")
            if (row[text] or "").strip() and row[label]:
                texts.append(row[text])
                labels.append(row[label])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Invalid("the file cannot be read as UTF-8 CSV") from error
    if not texts:
        raise Invalid("the CSV file holds no labelled text")
    return pool_from_labels(texts, labels)
