"""Labels that came as text: classes, or values where they are numbers with a fraction."""

from collections.abc import Sequence

from kshot.cli.sources.examples import Task, Truth, WrongUse


def as_labels(texts: Sequence[str], task: Task | None) -> list[Truth | None]:
    """Labels of rows; blanks are None. Without ``task``: values where all are numbers and one has a decimal point.

    Raises WrongUse where regression is asked for and a label is no number.
    """
    given = [text.strip() or None for text in texts]
    numbers = [None if text is None else as_number(text) for text in given]
    missing = next((text for text, number in zip(given, numbers, strict=True) if text and number is None), None)
    if task == "regression" and missing is not None:
        raise WrongUse(f"the label {missing!r} is no number, which --task regression needs")
    fraction = any(text is not None and ("." in text or "e" in text.lower()) for text in given)
    if task == "regression" or (task is None and missing is None and fraction):
        return list(numbers)
    return list(given)


def as_number(text: str) -> float | None:
    """The finite number that the text says; None where it says none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None


def kind_of(labels: Sequence[Truth | None]) -> str:
    """What the labels are, in words."""
    known = [label for label in labels if label is not None]
    classes = {label for label in known if isinstance(label, str)}
    blank = f", {len(labels) - len(known)} blank" if len(known) < len(labels) else ""
    return (f"{len(classes)} classes" if classes or not known else "values") + blank
