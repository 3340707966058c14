"""The embedded default: real Postgres and Valkey from wheels, migrations, then kshot's own processes as children.

This room imports nothing else of the repository: it starts commands and passes URLs.
"""

from standalone.embedded import EmbeddedServers, embedded_servers, temporary_home
from standalone.errors import StandaloneError

__all__ = ["EmbeddedServers", "StandaloneError", "embedded_servers", "temporary_home"]
