"""An answer made from the reply alone is what the row gives later."""

import json

from kshot.storage.database import fetch, open_database
from service.waiting import _as_stored
from standalone import embedded_servers

NUMBERS = [0.0, -0.0, 1.0, -2.5, 1e-7, 1e15, 123456789012345.6, 9999999999999998.0, 1e16, -1.2345678901234568e16]
NUMBERS += [1.2e25, 1.7976931348623157e308, 5e-324, 0.1]


async def test_numbers_and_keys_are_what_postgres_keeps() -> None:
    prediction = {"values": NUMBERS, "b": {"long": -0.0, "z": 3e17}, "a": 1, "label": "1e20", "none": None, "yes": True}
    with embedded_servers() as servers:
        engine = open_database(servers.database_url)
        async with engine.connect() as connection:
            (row,) = await fetch(connection, "SELECT $1::jsonb AS kept", json.dumps(prediction))
        await engine.dispose()
    assert json.dumps(_as_stored(prediction)) == json.dumps(row["kept"])
