"""The Kubernetes manifests against the schemas of Kubernetes, and against what kshot needs of them."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from kshot import __version__
from kshot.storage.settings import DatabaseSettings
from service.settings import Settings
from tests.deploy.composition import composition
from tests.deploy.manifests import (
    OVERLAYS,
    ROOT,
    Document,
    containers,
    of_kind,
    pods,
    put_together,
    read,
    rendered,
    sources,
)
from tests.deploy.variables import names_of
from workers.settings import StoreSettings, TrainerSettings, WorkerSettings

VERSIONS = ("1.30", "1.37")
OF_OTHERS = {"ScaledObject", "ServiceMonitor", "PrometheusRule"}
AWS = {"AWS_SHARED_CREDENTIALS_FILE", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3"}
SETTINGS = {
    "migrate": names_of(DatabaseSettings),
    "wait-for-migrations": names_of(DatabaseSettings),
    "publish": names_of(StoreSettings) | AWS | {"KSHOT_PRETRAINED"},
    "api": names_of(Settings) | AWS,
    "worker": names_of(WorkerSettings) | AWS | {"KSHOT_PRETRAINED"},
    "trainer": names_of(TrainerSettings) | AWS | {"KSHOT_PRETRAINED"},
}
Documents = Callable[[], list[Document]]
every_set = pytest.mark.parametrize(
    "documents", [sources, *(lambda name=name: rendered(name) for name in OVERLAYS)], ids=["sources", *OVERLAYS]
)


def names(documents: list[Document], kind: str) -> set[str]:
    return {document["metadata"]["name"] for document in of_kind(documents, kind)}


@every_set
@pytest.mark.parametrize("version", VERSIONS)
def test_all_that_kubernetes_knows_follows_its_schema(documents: Documents, version: str) -> None:
    known = [document for document in documents() if document["kind"] not in OF_OTHERS]
    assert len(known) > 10
    for document in known:
        kubernetes_validate.validate(document, version, strict=True)


def test_the_schema_refuses_a_mistake() -> None:
    deployment = of_kind(read(ROOT / "base" / "worker.yaml"), "Deployment")[0]
    deployment["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[0], strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_part_is_there(overlay: str) -> None:
    documents = rendered(overlay)
    assert names(documents, "Deployment") == {"kshot-api", "kshot-worker", "kshot-trainer"}
    assert names(documents, "Job") == {"kshot-migrate", "kshot-publish"}
    assert names(documents, "PodDisruptionBudget") == names(documents, "Deployment")
    assert names(documents, "HorizontalPodAutoscaler") == {"kshot-api"}
    assert names(documents, "ScaledObject") == {"kshot-worker", "kshot-trainer"}
    assert {document["metadata"]["namespace"] for document in documents if document["kind"] != "Namespace"} == {"kshot"}


@every_set
def test_no_container_has_rights_to_spare(documents: Documents) -> None:
    for _, template in pods(documents()):
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(template):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]


def test_the_namespace_refuses_pods_with_more_rights() -> None:
    labels = of_kind(sources(), "Namespace")[0]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@every_set
def test_what_stays_is_probed_and_commands_are_those_of_compose(documents: Documents) -> None:
    services = composition()["services"]
    for document, template in pods(documents()):
        for container in template["spec"]["containers"]:
            given = services[container["name"]]["command"]
            assert container["command"] == given[: len(container["command"])]
            if document["kind"] == "Deployment":
                assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)


@every_set
def test_variables_are_settings_and_files_of_secrets_are_mounted(documents: Documents) -> None:
    kept = {key for secret in read(ROOT / "secrets.example.yaml") for key in secret["stringData"]}
    for _, template in pods(documents()):
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        secret = volumes["secrets"]["secret"]
        assert secret["secretName"] == "kshot-secrets"
        mounted = {f"/run/secrets/kshot/{item['path']}" for item in secret["items"]}
        assert {item["key"] for item in secret["items"]} <= kept
        pointed = set()
        for container in containers(template):
            given = {variable["name"]: variable["value"] for variable in container["env"]}
            assert set(given) <= SETTINGS[container["name"]]
            pointed |= {value for value in given.values() if value.startswith("/run/secrets/")}
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
        assert pointed == mounted


def test_shared_settings_are_settings_of_all_who_get_them() -> None:
    kustomization = read(ROOT / "base" / "kustomization.yaml")[0]
    made = {
        one["name"]: {word.split("=")[0] for word in one["literals"]} for one in kustomization["configMapGenerator"]
    }
    cache = next(word for one in kustomization["configMapGenerator"] for word in one["literals"] if "CACHE=" in word)
    for _, template in pods(sources()):
        for container in containers(template):
            if container.get("envFrom"):
                assert cache.split("=")[1] in {mount["mountPath"] for mount in container["volumeMounts"]}
            for reference in container.get("envFrom", []):
                assert made[reference["configMapRef"]["name"]] <= SETTINGS[container["name"]]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_referred_to_exists(overlay: str) -> None:
    documents = rendered(overlay)
    maps, secrets = names(documents, "ConfigMap"), names(read(ROOT / "secrets.example.yaml"), "Secret")
    for _, template in pods(documents):
        for container in containers(template):
            assert {one["configMapRef"]["name"] for one in container.get("envFrom", [])} <= maps
    for one in of_kind(documents, "HorizontalPodAutoscaler", "ScaledObject"):
        assert one["spec"]["scaleTargetRef"]["name"] in names(documents, "Deployment")
    for one in of_kind(documents, "ServiceMonitor"):
        key = one["spec"]["endpoints"][0]["authorization"]["credentials"]
        assert key["name"] in secrets and key["key"] in read(ROOT / "secrets.example.yaml")[0]["stringData"]


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_find_the_pods_of_one_deployment_and_ports_match(overlay: str) -> None:
    documents = rendered(overlay)
    labels = {document["metadata"]["name"]: template["metadata"]["labels"] for document, template in pods(documents)}
    for document in of_kind(documents, "Deployment", "PodDisruptionBudget"):
        found = [name for name, given in labels.items() if selects(document["spec"]["selector"]["matchLabels"], given)]
        assert found == [document["metadata"]["name"]]
    (service,) = of_kind(documents, "Service")
    (api,) = (template for document, template in pods(documents) if document["metadata"]["name"] == "kshot-api")
    assert selects(service["spec"]["selector"], api["metadata"]["labels"])
    opened = {port["name"]: port["containerPort"] for port in api["spec"]["containers"][0]["ports"]}
    command = api["spec"]["containers"][0]["command"]
    assert opened == {"http": int(command[command.index("--port") + 1])}
    offered = {port["name"]: port["targetPort"] for port in service["spec"]["ports"]}
    assert set(offered.values()) <= set(opened)
    (ingress,) = of_kind(documents, "Ingress")
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == service["metadata"]["name"] and backend["port"]["name"] in offered
    (monitor,) = of_kind(documents, "ServiceMonitor")
    assert selects(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"])
    assert monitor["spec"]["endpoints"][0]["port"] in offered


def test_policies_close_everything_and_open_the_ports_that_are_used() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(sources(), "NetworkPolicy")}
    assert policies["kshot-deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert {port["port"] for rule in policies["kshot-to-api"]["ingress"] for port in rule["ports"]} == {8000}
    urls = read(ROOT / "secrets.example.yaml")[0]["stringData"]
    used = {int(re.findall(r":(\d+)", urls[key])[-1]) for key in ("database-url", "redis-url")} | {443, 53}
    assert {port["port"] for rule in policies["kshot-to-servers"]["egress"] for port in rule["ports"]} == used


def test_the_gpu_overlay_gives_each_that_computes_one_gpu() -> None:
    def asked(overlay: str) -> dict[str, Any]:
        found = {}
        for document, template in pods(rendered(overlay)):
            if document["kind"] == "Deployment":
                (container,) = template["spec"]["containers"]
                device = {variable["name"]: variable["value"] for variable in container["env"]}.get("KSHOT_DEVICE")
                found[container["name"]] = device, container["resources"]["limits"].get("nvidia.com/gpu")
        return found

    assert asked("cpu") == {"api": (None, None), "worker": ("cpu", None), "trainer": ("cpu", None)}
    assert asked("gpu") == {"api": (None, None), "worker": ("cuda", "1"), "trainer": ("cuda", "1")}


def test_folders_of_the_operator_are_mounted_where_they_are_read(tmp_path: Path) -> None:
    parts = [os.path.relpath(ROOT / part, tmp_path) for part in ("base", "components/folders")]
    kustomization = {"kind": "Kustomization", "resources": parts[:1], "components": parts[1:]}
    (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
    documents = put_together(tmp_path)
    (claim,) = names(documents, "PersistentVolumeClaim")
    read_by = {}
    for document, template in pods(documents):
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)
        container = template["spec"]["containers"][0]
        assert {variable["name"] for variable in container["env"]} <= SETTINGS[container["name"]]
        for volume in template["spec"]["volumes"]:
            if volume["name"] == "folders":
                assert volume["persistentVolumeClaim"]["claimName"] == claim
                mount = container["volumeMounts"][-1]["mountPath"]
                read_by[container["name"]] = [one["name"] for one in container["env"] if one["value"].startswith(mount)]
    assert read_by == {"api": ["KSHOT_DATA"]} | {
        name: ["KSHOT_PRETRAINED"] for name in ("worker", "trainer", "publish")
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_images_are_those_that_compose_builds_and_carry_this_version(overlay: str) -> None:
    built = {service["image"] for service in composition()["services"].values() if "build" in service}
    for _, template in pods(rendered(overlay)):
        for container in containers(template):
            name, _, version = container["image"].rpartition("/")[2].partition(":")
            assert name in built and version == __version__


def test_scaled_objects_have_what_keda_reads() -> None:
    for one in of_kind(sources(), "ScaledObject"):
        assert one["apiVersion"] == "keda.sh/v1alpha1"
        spec = one["spec"]
        assert 1 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
        for trigger in spec["triggers"]:
            assert trigger["type"] == "prometheus" and trigger.get("metricType", "AverageValue") in {
                "AverageValue",
                "Value",
            }
            assert {"serverAddress", "query", "threshold"} <= set(trigger["metadata"])
            assert all(isinstance(value, str) for value in trigger["metadata"].values())
            float(trigger["metadata"]["threshold"])
    scaled = names(sources(), "ScaledObject") | names(sources(), "HorizontalPodAutoscaler")
    for deployment in of_kind(sources(), "Deployment"):  # two who set it would fight
        assert ("replicas" in deployment["spec"]) == (deployment["metadata"]["name"] not in scaled)
