"""Imported before learn2learn and easyfsl, so that neither brings in what serves pictures, data sets and simulators."""

import importlib.abc
import importlib.machinery
import sys
import types
from typing import Any


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules whose every attribute is an empty class, for imports that nothing measured here ever uses."""

    roots = frozenset({"PIL", "gym", "qpth", "requests", "torchvision", "tqdm"})

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        known = name.partition(".")[0] in self.roots
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


class StandIn(types.ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *args, **options: None})


sys.meta_path.append(StandIns())
