"""Names of checkpoints: what they take, and what was meant where there is none of that name."""

from difflib import get_close_matches

from kshot.cli.sources.examples import Modality
from kshot.client import Client
from kshot.contracts.errors import NotFound
from kshot.contracts.registry_bodies import Checkpoint
from kshot.contracts.selection import AUTO


def find_checkpoint(client: Client, reference: str) -> Checkpoint:
    """A checkpoint by id, `name@alias` or `name`. Raises NotFound with names that come near it."""
    try:
        return client.checkpoint(reference)
    except NotFound as error:
        names = sorted({checkpoint.name for checkpoint in client.checkpoints()})
        near = get_close_matches(reference.split("@", maxsplit=1)[0], names, n=2)
        meant = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
        raise NotFound(f"no checkpoint {reference!r}; {meant}", param=error.param) from None


def modality_of(client: Client, reference: str) -> Modality | None:
    """What a checkpoint takes; None where the choice is left to the service."""
    return None if reference == AUTO else find_checkpoint(client, reference).input.modality
