"""The Kubernetes manifests: as they lie in the repository, and as kustomize puts them together."""

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.composition import CHECKOUT

ROOT = CHECKOUT / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "gpu")
Document = dict[str, Any]
_RUNS_PODS = {"Deployment", "Job"}


def read(path: Path) -> list[Document]:
    """The documents of a file."""
    return list(yaml.safe_load_all(path.read_text()))


def sources() -> list[Document]:
    """All whole resources of the repository: what overlays patch, but not the patches."""
    files = [*sorted((ROOT / "base").glob("*.yaml")), *sorted((ROOT / "components").glob("*/*.yaml"))]
    return [document for file in files if file.name != "kustomization.yaml" for document in read(file)]


@cache
def rendered(overlay: str) -> list[Document]:
    """What ``kubectl apply -k`` would send."""
    return put_together(ROOT / "overlays" / overlay)


def put_together(folder: Path) -> list[Document]:
    """What kustomize makes of a folder. Skips where there is no kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl: the overlays are not put together here")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(documents: list[Document], *kinds: str) -> list[Document]:
    return [document for document in documents if document["kind"] in kinds]


def pods(documents: list[Document]) -> Iterator[tuple[Document, Document]]:
    """Each resource that runs pods, and their template."""
    for document in documents:
        if document["kind"] in _RUNS_PODS:
            yield document, document["spec"]["template"]


def containers(template: Document) -> list[Document]:
    """Of a pod, those that come before it begins too."""
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]
