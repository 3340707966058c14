"""docker-compose.yml against the compose specification, and against what kshot needs of it."""

import json
import re
from typing import Any

import pytest
from compose_spec import PyCompose

from tests.deploy.composition import CHECKOUT, FILE, VARIABLE, composition, filled_in

EXAMPLE = dict(
    line.split("=", 1) for line in (CHECKOUT / ".env.example").read_text().splitlines() if re.match(r"\w+=", line)
)
SECRETS = {"KSHOT_ADMIN_KEY": "a" * 64, "POSTGRES_PASSWORD": "b" * 64}
SERVICES: dict[str, dict[str, Any]] = filled_in(composition(), EXAMPLE | SECRETS)["services"]
OURS = {"migrate", "publish", "api", "worker", "trainer"}


def check(document: dict[str, Any]) -> None:
    compose = PyCompose.from_json(json.dumps(document))
    compose.validate()
    compose.validate_volumes()
    compose.validate_networks()


def test_the_file_follows_the_compose_specification() -> None:
    check(filled_in(composition(), EXAMPLE | SECRETS))


@pytest.mark.parametrize(
    "mistake",
    [{"helthcheck": {"test": ["CMD", "true"]}}, {"networks": ["nowhere"]}, {"healthcheck": {"interval": "soon"}}],
    ids=["unknown key", "unknown network", "no duration"],
)
def test_the_specification_refuses_a_mistake(mistake: dict[str, Any]) -> None:
    document = filled_in(composition(), EXAMPLE | SECRETS)
    document["services"]["api"] |= mistake
    with pytest.raises(ValueError):
        check(document)


def test_every_part_is_there() -> None:
    assert set(SERVICES) == OURS | {"postgres", "redis"}
    assert SERVICES["postgres"]["image"] == "postgres:17"
    assert SERVICES["redis"]["image"] == "redis:7"
    redis_words = SERVICES["redis"]["command"]
    assert redis_words[redis_words.index("--appendonly") + 1] == "yes"
    assert redis_words[redis_words.index("--maxmemory-policy") + 1] == "noeviction"
    assert not any("profiles" in service for service in SERVICES.values())


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_is_waited_for_can_happen(name: str) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        if wait["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]
        else:
            assert wait["condition"] == "service_completed_successfully"
            assert other in {"migrate", "publish"}
            assert SERVICES[other].get("restart", "no") == "no"  # one that is restarted never counts as completed


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_long_lived_services_come_back_and_keep_their_data_in_volumes(name: str) -> None:
    service = SERVICES[name]
    if name in {"postgres", "redis", "api", "worker", "trainer"}:
        assert service["restart"] == "unless-stopped"
    if name in OURS - {"migrate"}:
        assert f"objects:{service['environment']['KSHOT_OBJECTS']}" in service["volumes"]
    if name == "trainer":
        assert f"work:{service['environment']['KSHOT_WORK']}" in service["volumes"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_have_no_rights_to_spare(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_only_the_api_is_published_and_only_on_loopback() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "api": ["127.0.0.1:8000:8000"]
    }
    assert composition()["networks"]["back"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "front" in service["networks"]} == {"api"}


def test_the_example_names_every_variable_and_holds_no_secret() -> None:
    used = {match["name"] for match in VARIABLE.finditer(FILE.read_text())}
    assert used == set(EXAMPLE)
    assert {name for name, value in EXAMPLE.items() if not value} == set(SECRETS)
    for name in SECRETS:
        with pytest.raises(KeyError, match=name):
            filled_in(composition(), EXAMPLE | SECRETS | {name: ""})
