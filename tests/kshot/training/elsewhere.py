"""A device that is not the CPU, on any machine: what a GPU would refuse is refused, and the numbers are the CPU's.

Tensors of it say that they are on ``meta`` and hold a CPU's tensor, on which each operation is carried out. Operations
that mix them with a tensor of the CPU raise, but for what a GPU allows: numbers, and indices.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

ELSEWHERE = torch.device("meta")
_CPU = torch.device("cpu")
_MOVES = {"copy_", "_to_copy", "_copy_from"}
_TAKES_INDICES = {"index", "index_put", "index_put_", "_index_put_impl_"}
_JOINS = {"cat", "stack"}
_AUTOCAST = torch.autocast


class Elsewhere(Tensor):
    """``here``: the tensor of the CPU that holds the numbers."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "Elsewhere":
        made: Elsewhere = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype,
            device=ELSEWHERE,
        )  # fmt: skip
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _carry_out(func, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _carry_out(func, args, kwargs or {})


class _Makers(TorchFunctionMode):
    """``torch.tensor`` and its like give empty tensors on ``meta``: make them on the CPU, then move them."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == ELSEWHERE:
            return func(*args, **{**kwargs, "device": _CPU}).to(ELSEWHERE)
        if func is Tensor.tolist and isinstance(args[0], Elsewhere):
            return args[0].here.tolist()
        return func(*args, **kwargs)


@contextmanager
def somewhere_else() -> Iterator[torch.device]:
    """The device, which is there in this context only."""
    with _Makers(), _Operations(), patch.object(torch, "autocast", _autocast):
        yield ELSEWHERE


def _autocast(device: str, *args: Any, **kwargs: Any) -> torch.autocast:
    return _AUTOCAST(_CPU.type if device == ELSEWHERE.type else device, *args, **kwargs)


def _carry_out(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func.overloadpacket.__name__
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
    away = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
    if away and name not in _MOVES:
        _check(name, args, tensors)
    wanted = kwargs.get("device")
    kwargs = kwargs | ({"device": _CPU} if wanted == ELSEWHERE else {})
    known = {id(tensor.here): tensor for tensor in away}
    found = func(*tree_map(_here, args), **tree_map(_here, kwargs))
    if wanted == _CPU or (wanted is None and not away) or (name == "copy_" and not isinstance(args[0], Elsewhere)):
        return found
    return tree_map(lambda part: known.get(id(part), part) if not _new(part, known) else Elsewhere(part), found)


def _check(name: str, args: Any, tensors: list[Tensor]) -> None:
    """Raises RuntimeError where a GPU would."""
    if name in _TAKES_INDICES:
        tensors = [args[0], *args[2:3]]
    strays = [own for own in tensors if not isinstance(own, Elsewhere) and (own.dim() > 0 or name in _JOINS)]
    if strays:
        raise RuntimeError(f"{name}: a tensor {tuple(strays[0].shape)} is on the CPU, another one is not")


def _new(part: Any, known: dict[int, Elsewhere]) -> bool:
    return isinstance(part, Tensor) and id(part) not in known


def _here(part: Any) -> Any:
    return part.here if isinstance(part, Elsewhere) else part
