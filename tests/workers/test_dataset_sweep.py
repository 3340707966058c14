"""Files of data sets that were deleted by a front end which ended before it removed them."""

import pytest

from kshot.contracts.datasets import DatasetManifest
from kshot.contracts.errors import NotFound
from kshot.contracts.ids import new_id
from kshot.storage.datasets import delete_dataset, get_dataset, insert_dataset, objects_left
from kshot.storage.tables import DEFAULT_TENANT
from tests.workers.place import Place
from workers.sweeping import clear_datasets


async def uploaded(place: Place) -> tuple[str, str]:
    """Id and object key of a data set with a file."""
    fresh = new_id("ds")
    key = f"datasets/{fresh}.csv"
    manifest = DatasetManifest(
        id=fresh, name=fresh.lower().replace("_", "-"), format="text_csv", modality="text", file="data.csv"
    )
    async with place.stack.database.begin() as connection:
        await insert_dataset(connection, tenant=DEFAULT_TENANT, manifest=manifest, object_key=key, n_bytes=4)
    place.objects.put(key, b"data")
    return fresh, key


async def test_the_file_of_a_deleted_data_set_goes_and_no_other(place: Place):
    gone, kept = await uploaded(place), await uploaded(place)
    async with place.stack.database.begin() as connection:
        await delete_dataset(connection, gone[0])
    await clear_datasets(place.stack.database, place.objects)
    with pytest.raises(NotFound):
        place.objects.get(gone[1])
    assert place.objects.get(kept[1]) == b"data"
    async with place.stack.database.connect() as connection:
        assert gone[0] not in await objects_left(connection, limit=1000)
        assert (await get_dataset(connection, kept[0])).object_key == kept[1]
