"""The one error of this room."""


class StandaloneError(Exception):
    """Something the person at the terminal can act on; the message names the remedy."""
