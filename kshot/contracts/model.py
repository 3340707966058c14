"""The base of every model that crosses a process boundary."""

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Immutable; unknown fields are refused; numbers must be finite; nothing is coerced ("1" is no number)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)
