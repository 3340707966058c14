"""docker-compose.yml against the compose specification, and against what kshot needs of it."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from compose_spec import PyCompose

from kshot.storage.settings import DatabaseSettings
from service.settings import Settings
from tests.deploy.composition import CHECKOUT, FILE, S3_FILE, VARIABLE, composition, filled_in, laid_over
from tests.deploy.variables import names_of
from workers.settings import StoreSettings, TrainerSettings, WorkerSettings

EXAMPLE = dict(
    line.split("=", 1) for line in (CHECKOUT / ".env.example").read_text().splitlines() if re.match(r"\w+=", line)
)
FILLED_IN: dict[str, Any] = filled_in(composition(), {})
SERVICES: dict[str, dict[str, Any]] = FILLED_IN["services"]
ONCE = {"migrate", "publish", "backup"}
OURS = ONCE | {"api", "worker", "worker-gpu", "trainer", "trainer-gpu"}
OTHERS = {"postgres", "redis", "prometheus", "grafana"}
PROFILES = {
    "worker-gpu": ["gpu"],
    "trainer-gpu": ["gpu"],
    "backup": ["backup"],
    "prometheus": ["monitoring"],
    "grafana": ["monitoring"],
}


def check(document: dict[str, Any]) -> None:
    compose = PyCompose.from_json(json.dumps(document))
    compose.validate()
    compose.validate_volumes()
    compose.validate_networks()


def test_the_file_follows_the_compose_specification() -> None:
    check(FILLED_IN)


@pytest.mark.parametrize(
    "mistake",
    [{"helthcheck": {"test": ["CMD", "true"]}}, {"networks": ["nowhere"]}, {"healthcheck": {"interval": "soon"}}],
    ids=["unknown key", "unknown network", "no duration"],
)
def test_the_specification_refuses_a_mistake(mistake: dict[str, Any]) -> None:
    document = filled_in(composition(), {})
    document["services"]["api"] |= mistake
    with pytest.raises(ValueError):
        check(document)


def test_every_part_is_there() -> None:
    assert set(SERVICES) == OURS | OTHERS
    assert SERVICES["postgres"]["image"] == "postgres:17"
    assert SERVICES["redis"]["image"] == "redis:7"
    redis_words = SERVICES["redis"]["command"]
    assert redis_words[redis_words.index("--appendonly") + 1] == "yes"
    assert redis_words[redis_words.index("--maxmemory-policy") + 1] == "noeviction"
    assert {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service} == PROFILES


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_is_waited_for_can_happen(name: str) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        if wait["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]
        else:
            assert wait["condition"] == "service_completed_successfully"
            assert other in ONCE
            assert SERVICES[other].get("restart", "no") == "no"  # one that is restarted never counts as completed


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_long_lived_services_come_back_and_keep_their_data_in_volumes(name: str) -> None:
    service = SERVICES[name]
    assert service.get("restart", "no") == ("no" if name in ONCE else "unless-stopped")
    if name in OURS - {"migrate"}:
        assert f"objects:{service['environment']['KSHOT_OBJECTS']}" in service["volumes"]
    if name.startswith("trainer"):
        assert f"work:{service['environment']['KSHOT_WORK']}" in service["volumes"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_container_has_rights_or_room_to_spare(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"memory", "pids"}
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}


def test_a_gpu_is_asked_for_by_the_gpu_profile_alone() -> None:
    for name, service in SERVICES.items():
        asked = service["deploy"]["resources"].get("reservations", {}).get("devices")
        assert (asked is not None) == name.endswith("-gpu")
        if asked is not None:
            assert asked == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
            assert service["environment"] == SERVICES[name.removesuffix("-gpu")]["environment"] | {
                "KSHOT_DEVICE": "cuda"
            }


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_variable_of_ours_is_a_setting(name: str) -> None:
    known = names_of({"api": Settings, "migrate": DatabaseSettings}.get(name, WorkerSettings))
    if name.startswith(("trainer", "publish", "backup")):
        known = names_of(TrainerSettings) | names_of(StoreSettings)
    shared = {"REDIS_URL", "KSHOT_OBJECTS", "KSHOT_PRETRAINED"}  # every process gets the stores' addresses
    assert set(SERVICES[name]["environment"]) <= known | shared


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_secrets_are_files_and_only_where_they_are_needed(name: str) -> None:
    service = SERVICES[name]
    environment = service.get("environment", {})
    pointers = {str(value) for variable, value in environment.items() if variable.endswith("_FILE")}
    mounted = {f"/run/secrets/{secret}" for secret in service.get("secrets", [])}
    assert pointers == mounted or (name, mounted) == ("prometheus", {"/run/secrets/admin_key"})
    assert not any(re.search("PASSWORD|SECRET|KEY", variable) for variable in environment if variable[-5:] != "_FILE")
    assert {secret for service in SERVICES.values() for secret in service.get("secrets", [])} == set(
        FILLED_IN["secrets"]
    )


def test_only_the_api_and_grafana_are_published_and_only_on_loopback() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "api": ["127.0.0.1:8000:8000"],
        "grafana": ["127.0.0.1:3000:3000"],
    }
    assert composition()["networks"]["back"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "front" in service["networks"]} == {"api", "grafana"}


def test_the_example_names_every_variable_with_its_default_and_holds_no_secret() -> None:
    assert {match["name"] for match in VARIABLE.finditer(FILE.read_text())} == set(EXAMPLE)
    assert filled_in(composition(), EXAMPLE) == FILLED_IN
    assert not any(re.search("PASSWORD|KEY|_URL", name.removesuffix("INDEX_URL")) for name in EXAMPLE)


def test_new_secrets_are_made_once_each_of_its_own(tmp_path: Path) -> None:
    command = [str(CHECKOUT / "deploy" / "new-secrets"), str(tmp_path / "secrets")]
    subprocess.run(command, check=True, capture_output=True)
    made = {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    assert set(made) == set(FILLED_IN["secrets"])
    assert all(re.fullmatch("[0-9a-f]{64}", secret) for secret in made.values())
    assert len(set(made.values())) == len(made)
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    (tmp_path / "secrets" / "admin_key").unlink()
    subprocess.run(command, check=True, capture_output=True)
    again = {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    assert {name for name in made if made[name] != again[name]} == {"admin_key"}


def test_laid_over_with_a_bucket_every_store_is_the_bucket_and_can_be_reached() -> None:
    given = {"KSHOT_BUCKET": "s3://bucket/prefix", "AWS_DEFAULT_REGION": "eu-central-1"}
    document = filled_in(laid_over(composition(), composition(S3_FILE)), given)
    check(document)
    for name in OURS - {"migrate"}:
        service = document["services"][name]
        assert service["environment"]["KSHOT_OBJECTS"] == "s3://bucket/prefix"
        assert set(service["environment"]) <= set(SERVICES[name]["environment"]) | {
            "AWS_DEFAULT_REGION",
            "AWS_ENDPOINT_URL_S3",
            "AWS_SHARED_CREDENTIALS_FILE",
        }
        assert service["secrets"][-1] == "aws_credentials" and "postgres_password" in service["secrets"]
        assert "cache:/data/cache" in service["volumes"] and "front" in service["networks"]
    for name in given:
        with pytest.raises(KeyError, match=name):
            filled_in(composition(S3_FILE), given | {name: ""})
