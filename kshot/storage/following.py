"""Adapted models that follow an alias: their support sets are replayed on the checkpoint it moved to."""

from sqlalchemy.ext.asyncio import AsyncConnection


async def start_following(connection: AsyncConnection, name: str, alias: str, checkpoint: str) -> int:
    """In the transaction that moves ``name@alias`` to ``checkpoint``: queue the replay of every model that follows the
    alias. Returns how many there are."""
    return 0
