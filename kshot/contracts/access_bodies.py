"""What the routes of keys, tenants, quotas and the audit log take and answer."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from kshot.contracts.api import MAX_TTL_S, Answer
from kshot.contracts.checkpoints import Name
from kshot.contracts.model import Model

_LONGEST_GRACE_S = 90 * 24 * 3600
_Count = Annotated[int, Field(ge=0, le=2**53)]


class NewKeyRequest(Model):
    """`POST /v1/api-keys`."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    role: Literal["user", "admin"] = "user"
    tenant: Name | None = Field(default=None, description="Name of the tenant, made where it is new; yours by default")
    expires_in_seconds: Annotated[int, Field(ge=1, le=MAX_TTL_S)] | None = None


class RotateKeyRequest(Model):
    """`POST /v1/api-keys/{id}/rotate`."""

    grace_seconds: Annotated[int, Field(ge=0, le=_LONGEST_GRACE_S)] = Field(
        description="How long the old secret is still good; 0 where it may be in wrong hands"
    )
    expires_in_seconds: Annotated[int, Field(ge=1, le=MAX_TTL_S)] | None = Field(
        default=None, description="Of the new key; by default it lives as long as the old one was given"
    )


class QuotasRequest(Model):
    """`PUT /v1/tenants/{tenant}/quotas`. What is left out, or null, is as the operator's settings say."""

    adapted_models: _Count | None = Field(default=None, description="Adapted models kept")
    stored_bytes: _Count | None = Field(default=None, description="Their support sets")
    dataset_bytes: _Count | None = Field(default=None, description="Files of data sets")
    open_jobs: _Count | None = Field(default=None, description="Meta-training jobs that have not ended")
    requests_per_minute: Annotated[int, Field(ge=1, le=2**31)] | None = None


class Quotas(Answer):
    """What a tenant may have at a time; null: no bound."""

    adapted_models: int | None = Field(default=None, description="Adapted models kept: neither deleted nor expired")
    stored_bytes: int | None = Field(default=None, description="Support sets of these, as they are stored")
    dataset_bytes: int | None = Field(default=None, description="Files of its data sets")
    open_jobs: int | None = Field(default=None, description="Meta-training jobs that have not ended")
    requests_per_minute: int | None = Field(default=None, description="Requests, over all of its keys")


class Used(Answer):
    """What a tenant has; of what each counts, `Quotas` tells."""

    adapted_models: int
    stored_bytes: int
    dataset_bytes: int
    open_jobs: int


class Usage(Answer):
    """`GET /v1/usage`."""

    object: Literal["usage"] = "usage"
    tenant: str = Field(description="Its name")
    used: Used
    quotas: Quotas = Field(description="What holds: the tenant's own, else the operator's settings")


class Tenant(Answer):
    """A tenant, to administrators."""

    object: Literal["tenant"] = "tenant"
    id: str
    name: str
    created_at: datetime
    own_quotas: Quotas = Field(description="What was set for this tenant; null: as the operator's settings say")
    usage: Usage | None = Field(default=None, description="Not in lists")


class AuditEntry(Answer):
    """A line of the audit log."""

    object: Literal["audit_entry"] = "audit_entry"
    id: int
    at: datetime
    tenant: str = Field(description="The name of the caller's tenant")
    key: str | None = Field(description="The id of the caller's key; null on a server without keys")
    action: str = Field(description="Such as `adapted_model.delete`")
    subject: str = Field(description="The id, or the name, of what it was done to")
    request_id: str | None
