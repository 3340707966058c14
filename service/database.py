"""Transactions of a request: an absent Postgres becomes 503, never a 500 and never a 202."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kshot.contracts.errors import KshotError, Unavailable
from kshot.storage.database import is_away
from kshot.storage.lookups import Found, Lookups, Question
from kshot.storage.tenancy import confine


class Database:
    """The pool, as routes use it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._lookups = Lookups(engine)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed at the end, rolled back on any error."""
        with _away_is_unavailable():
            async with self._engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def of_tenant(self, tenant: str) -> AsyncIterator[AsyncConnection]:
        """One transaction that sees and changes the rows of this tenant alone, whatever its statements say."""
        async with self.transaction() as connection:
            await confine(connection, tenant)
            yield connection

    @asynccontextmanager
    async def single(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which each statement is a transaction of its own, whether it reads or writes: no BEGIN and
        COMMIT, two round trips fewer."""
        with _away_is_unavailable():
            async with self._single.connect() as connection:
                yield connection

    async def find(self, question: Question) -> Found:
        """A key, a model, an alias, as of now; asked together with what other requests ask."""
        try:
            return await self._lookups.find(question)
        except Exception as error:
            _raise_if_away(error)
            raise

    async def close(self) -> None:
        """Close every connection."""
        await self._lookups.close()
        await self._engine.dispose()


@contextmanager
def _away_is_unavailable() -> Iterator[None]:
    try:
        yield
    except KshotError:
        raise
    except Exception as error:
        _raise_if_away(error)
        raise


def _raise_if_away(error: Exception) -> None:
    if is_away(error):
        raise Unavailable("the database is away; try again", retry_after=2) from error
