"""The Python client of a kshot service, and scikit-learn estimators on top of it.

>>> from kshot.client import Client
>>> client = Client()
>>> model = client.adapt("intents", ["where is my card", "I want a refund"], ["arrival", "refund"])
>>> model.predict(["my new card is late"]).labels
['arrival']
"""

from typing import TYPE_CHECKING, Any

from kshot.client.clients import AsyncClient, Client
from kshot.client.failures import Unreachable, WaitTimedOut
from kshot.client.jobs import AsyncJob, Job
from kshot.client.models import AsyncModel, Model, Prediction
from kshot.contracts.errors import (
    AdaptationFailed,
    Conflict,
    DeadlinePassed,
    Expired,
    Forbidden,
    IdempotencyKeyReused,
    Invalid,
    KshotError,
    NotFound,
    Poison,
    PreconditionFailed,
    QueueFull,
    QuotaExceeded,
    RateLimited,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnreadableBody,
    UnsupportedMediaType,
    WorseThanIncumbent,
)

if TYPE_CHECKING:
    from kshot.client.estimators import FewShotClassifier, FewShotRegressor

__all__ = [
    "AdaptationFailed",
    "AsyncClient",
    "AsyncJob",
    "AsyncModel",
    "Client",
    "Conflict",
    "DeadlinePassed",
    "Expired",
    "FewShotClassifier",
    "FewShotRegressor",
    "Forbidden",
    "IdempotencyKeyReused",
    "Invalid",
    "Job",
    "KshotError",
    "Model",
    "NotFound",
    "Poison",
    "PreconditionFailed",
    "Prediction",
    "QueueFull",
    "QuotaExceeded",
    "RateLimited",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "UnreadableBody",
    "UnsupportedMediaType",
    "WaitTimedOut",
    "WorseThanIncumbent",
]


def __getattr__(name: str) -> Any:
    """The estimators, which need scikit-learn, once they are asked for."""
    if name in ("FewShotClassifier", "FewShotRegressor"):
        try:
            from kshot.client import estimators
        except ImportError as error:
            raise ImportError(f"{name} needs scikit-learn: pip install kshot[sklearn]") from error
        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
