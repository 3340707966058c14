"""Rows of databases of any revision: all read, recorded ones put in, and made-up ones for the tables that have none."""

import base64
import json
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("revisions")
NEWEST = max((Path(__file__).parents[2] / "migrations" / "versions").glob("[0-9]*.py"))
"""The newest migration."""
Row = dict[str, Any]
Rows = dict[str, list[Row]]


async def rows_of(connection: Any) -> Rows:
    """Every row of every table, by its name, as JSON has it: bytes in hexadecimal, times in ISO 8601."""
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    return {
        name: [json.loads(row[0]) for row in await connection.fetch(f'SELECT to_jsonb(t) FROM "{name}" t ORDER BY t')]
        for (name,) in tables
    }


async def put_in(connection: Any, rows: Rows) -> None:
    """Insert recorded rows, as they are. The tables are those of the revision they were recorded at."""
    for name in await _in_order(connection):
        columns = ", ".join(f'"{column}"' for column in (rows.get(name) or [{}])[0])
        if columns:
            await connection.execute(
                f'INSERT INTO "{name}" ({columns}) OVERRIDING SYSTEM VALUE '
                f'SELECT {columns} FROM jsonb_populate_recordset(NULL::"{name}", $1) ON CONFLICT DO NOTHING',
                json.dumps(rows[name]),
            )
    for table, column in await connection.fetch(_COUNTED):
        sequence = f"pg_get_serial_sequence('{table}', '{column}')"
        await connection.execute(f'SELECT setval({sequence}, (SELECT max("{column}") FROM "{table}"))')


def put_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write recorded objects."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(base64.b64decode(content))


async def fill(connection: Any) -> None:
    """Two made-up rows for each table that has none, whatever its columns are."""
    for name in await _in_order(connection):
        if not await connection.fetchval(f'SELECT EXISTS (SELECT FROM "{name}")'):
            for n in range(2):
                await _insert_made_up(connection, name, n)


async def _insert_made_up(connection: Any, table: str, n: int) -> None:
    row = {}
    for column in await connection.fetch(_COLUMNS, table):
        name = column["name"]
        if column["refers_to"] is not None:
            known = await connection.fetch(f'SELECT "{column["key"]}" FROM "{column["refers_to"]}" ORDER BY 1')
            row[name] = known[n % len(known)][0] if known else None
        elif not column["generated"]:
            row[name] = _value(column, f"{table}-{n}", n)
    await put_in(connection, {table: [row]})


def _value(column: Any, word: str, n: int) -> Any:
    """The first that a check allows; else something of its type."""
    if column["allowed"]:
        return column["allowed"]
    made: dict[str, Any] = {
        "text": word, "int4": 1000 + n, "int8": 1_000_000 + n, "float8": 0.5, "bool": False, "jsonb": {},
        "bytea": rf"\x0{n}", "timestamptz": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return None if column["type"] == "jsonb" and column["nullable"] else made[column["type"]]


async def _in_order(connection: Any) -> list[str]:
    """The tables, those that others refer to first."""
    found = {row["name"]: set(row["needs"]) for row in await connection.fetch(_REFERENCES)}
    return list(TopologicalSorter(found).static_order())


_REFERENCES = """
SELECT relname AS name, coalesce(array_agg(confrelid::regclass::text) FILTER (WHERE confrelid <> t.oid), '{}') AS needs
FROM pg_class t LEFT JOIN pg_constraint ON conrelid = t.oid AND contype = 'f'
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace GROUP BY relname
"""
_COUNTED = """
SELECT attrelid::regclass::text, attname FROM pg_attribute JOIN pg_class t ON t.oid = attrelid
WHERE attidentity <> '' AND relkind = 'r' AND relnamespace = 'public'::regnamespace
"""
_COLUMNS = """
SELECT a.attname AS name, typname AS type, NOT a.attnotnull AS nullable, a.attidentity <> '' AS generated,
    f.confrelid::regclass::text AS refers_to, k.attname AS key,
    (SELECT (regexp_match(pg_get_constraintdef(c.oid), '''([^'']+)'''))[1] FROM pg_constraint c
        WHERE c.conrelid = a.attrelid AND contype = 'c' AND c.conkey = ARRAY[a.attnum]) AS allowed
FROM pg_attribute a JOIN pg_type ON pg_type.oid = a.atttypid
LEFT JOIN pg_constraint f ON f.conrelid = a.attrelid AND f.contype = 'f' AND f.conkey = ARRAY[a.attnum]
LEFT JOIN pg_attribute k ON k.attrelid = f.confrelid AND k.attnum = f.confkey[1]
WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped
"""
