"""Settings from the environment: ``DATABASE_URL``, ``REDIS_URL``, and ``KSHOT_`` for everything else; secrets also from
the files that ``DATABASE_URL_FILE``, ``KSHOT_ADMIN_KEY_FILE`` and so on name."""

from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr

from kshot.queue.address import RedisUrl
from kshot.storage.quotas import Quotas
from kshot.storage.settings import ObjectSettings


class Settings(ObjectSettings):
    """Read once at start; times in seconds, sizes in bytes."""

    redis_url: RedisUrl = Field(
        validation_alias=AliasChoices("REDIS_URL", "redis_url"),
        description="redis://, rediss:// or unix:// of Redis or Valkey",
    )
    data: Path | None = Field(default=None, description="Folder of the operator's data sets, for built-in sources")
    admin_key: SecretStr | None = Field(default=None, min_length=32, description="Bootstraps an admin key")

    max_ways: int = Field(default=200, ge=2, description="Classes of one model")
    max_support: int = Field(default=2000, ge=1, description="Examples of one model")
    max_joint_labels: int = Field(default=8192, ge=64, description="Examples times targets, where there are several")
    max_query: int = Field(default=5000, ge=1, description="Inputs to answer in one call")
    max_body_bytes: int = Field(default=32 * 1024 * 1024, description="The body of a request, but for data sets")
    max_decoded_bytes: int = Field(default=64 * 1024 * 1024, description="A support or a query set after decoding")
    max_dataset_bytes: int = Field(default=2**30, ge=1, description="The file of an uploaded data set")
    dataset_check_s: float = Field(default=600, gt=0, description="Longest time to read through an uploaded data set")
    rate_per_minute: int = Field(default=60_000, ge=1, description="Requests of one tenant, over all API processes")
    quota_adapted_models: int | None = Field(default=None, ge=0, description="Adapted models kept, of each tenant")
    quota_stored_bytes: int | None = Field(default=None, ge=0, description="Support sets of these")
    quota_dataset_bytes: int | None = Field(default=None, ge=0, description="Files of data sets, of each tenant")
    quota_open_jobs: int | None = Field(default=None, ge=0, description="Jobs that have not ended, of each tenant")
    max_open_tasks: int = Field(default=1024, ge=4, description="Of all tenants; one tenant at most a quarter")
    max_calls: int = Field(
        default=96,
        ge=16,
        description="Calls of one API process that wait at a time; of one tenant four fifths while others ask",
    )

    predict_deadline_s: float = Field(default=30, gt=0, description="After that a prediction is answered with 504")
    header_deadline_s: float = Field(default=30, gt=0, description="For a whole request, headers and body, to arrive")
    worker_seen_s: float = Field(default=15, gt=0, description="A worker unseen for longer counts as gone")
    database_connections: int = Field(
        default=10, ge=2, description="Of each API process; one of them asks for keys, models and aliases alone"
    )

    @property
    def quotas(self) -> Quotas:
        """Of every tenant for whom nothing else was set."""
        return Quotas(
            adapted_models=self.quota_adapted_models,
            stored_bytes=self.quota_stored_bytes,
            dataset_bytes=self.quota_dataset_bytes,
            open_jobs=self.quota_open_jobs,
            requests_per_minute=self.rate_per_minute,
        )

    @property
    def max_open_per_tenant(self) -> int:
        """A quarter, so that no tenant can fill the queue alone."""
        return self.max_open_tasks // 4
