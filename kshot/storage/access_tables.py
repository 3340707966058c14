"""The tables of what goes with API keys and tenants: sessions of the console, quotas."""

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, LargeBinary, Table, Text, func

from kshot.storage.tables import created, metadata

_OWN = "NULL: as KSHOT_QUOTA_... says"

sessions = Table(
    "sessions",
    metadata,
    Column("sha256", LargeBinary, primary_key=True, comment="of the cookie's secret"),
    Column(
        "key_id",
        Text,
        ForeignKey("api_keys.id"),
        nullable=False,
        comment="the API key that signed in: its end is the session's",
    ),
    created(),
    Column("expires_at", DateTime(timezone=True), nullable=False, index=True),
)

quotas = Table(
    "quotas",
    metadata,
    Column("tenant_id", Text, ForeignKey("tenants.id"), primary_key=True),
    Column("adapted_models", BigInteger, comment=_OWN),
    Column("stored_bytes", BigInteger, comment=_OWN),
    Column("dataset_bytes", BigInteger, comment=_OWN),
    Column("open_jobs", BigInteger, comment=_OWN),
    Column("requests_per_minute", BigInteger, comment="NULL: KSHOT_RATE_PER_MINUTE"),
    Column("changed_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
