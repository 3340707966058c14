"""A few examples of a data set, read from its file in a child process, as the file itself was when it came."""

from contextlib import AsyncExitStack

from anyio import to_thread

from kshot.contracts.dataset_bodies import DatasetSample
from kshot.episodes.samples import look_into
from kshot.storage.datasets import StoredDataset
from service.state import State
from service.uploads import in_child


async def samples_of(state: State, row: StoredDataset, most: int) -> list[DatasetSample]:
    """Up to ``most``; none of a data set without a file. Raises NotFound where the file is gone, TooLarge where looking
    takes too long."""
    if row.object_key is None:
        return []
    async with AsyncExitStack() as held:
        file = await to_thread.run_sync(held.enter_context, state.objects.file(row.object_key))
        found = await in_child(state, look_into, file, row.manifest, most)
    part_of = {label: part for part, labels in row.manifest.splits.items() for label in labels}
    return [
        DatasetSample(
            label=one.label,
            part=None if one.label is None else part_of.get(one.label),
            image=one.image,
            text=one.text,
            numbers=list(one.numbers),
            targets=None if one.targets is None else dict(one.targets),
        )
        for one in found
    ]
