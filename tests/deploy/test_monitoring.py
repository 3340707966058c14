"""Alerts, dashboard and scrape configuration: well-formed, and about what a running service exposes.

That last is asked of the composed service in test_compose_flow.py.
"""

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.deploy.composition import CHECKOUT, composition
from tests.deploy.manifests import of_kind, sources
from tests.deploy.promql import ALERTS, DASHBOARD, asked, expressions

GROUPS: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
PROMETHEUS = CHECKOUT / "deploy" / "prometheus" / "prometheus.yml"
GRAFANA = CHECKOUT / "deploy" / "grafana"


def test_every_expression_parses_and_asks_for_something() -> None:
    found = asked()
    assert {place for place, _ in expressions()} == {one.place for one in found}


def test_alerts_say_what_is_wrong_how_bad_it_is_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "action"}
        assert re.fullmatch(r"\d+m", rule.get("for", "0m"))


def test_labels_that_an_alert_shows_are_left_by_its_expression() -> None:
    for rule in RULES:
        shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        kept = set(re.findall(r"by \(([^)]*)\)", rule["expr"]))
        assert shown <= {"instance", "job"} | {label.strip() for labels in kept for label in labels.split(",")}


def test_the_operator_gets_the_same_rules() -> None:
    (rules,) = of_kind(sources(), "PrometheusRule")
    assert rules["spec"]["groups"] == GROUPS


def test_prometheus_reads_the_rules_and_asks_the_api_with_the_key_it_is_given() -> None:
    config = yaml.safe_load(PROMETHEUS.read_text())
    service = composition()["services"]["prometheus"]
    mounted = {volume.split(":")[1] for volume in service["volumes"] if volume.startswith("./")}
    assert mounted == {"/etc/prometheus/prometheus.yml", *(f"/etc/prometheus/{name}" for name in config["rule_files"])}
    (job,) = config["scrape_configs"]
    assert job["authorization"]["credentials_file"].removeprefix("/run/secrets/") in service["secrets"]
    assert job["static_configs"][0]["targets"] == ["api:8000"]
    (monitor,) = of_kind(sources(), "ServiceMonitor")
    assert job["job_name"] == monitor["metadata"]["name"]  # as the operator names it: the Service's name
    assert {value for one in asked() for name, value in one.values if name == "job"} == {job["job_name"]}


def test_the_dashboard_can_be_provisioned() -> None:
    board = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert board["uid"] == "kshot" and "id" not in board and len(set(ids)) == len(ids)
    assert {variable["name"] for variable in board["templating"]["list"]} == {"datasource", "route"}
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24
        for target in panel.get("targets", []):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    provider = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "kshot.yml").read_text())["providers"][0]
    volumes = composition()["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in volumes
    source = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")


def test_legends_show_labels_that_their_expressions_leave() -> None:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            kept = {label.strip() for by in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in by.split(",")}
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept | {"instance"}, panel["title"]


def test_rules_behave_as_promtool_says() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool (Debian: apt-get install prometheus): the rules are parsed, but not tried out here")
    cases = CHECKOUT / "tests" / "deploy" / "alert_cases.yml"
    done = subprocess.run([promtool, "test", "rules", str(cases)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_lists_every_alert_with_its_severity() -> None:
    page = (CHECKOUT / "docs" / "how-to" / "monitoring.md").read_text()
    listed = re.findall(r"^\| `(Kshot\w+)` \|.*\| (\w+) \|$", page, flags=re.MULTILINE)
    assert listed == [(rule["alert"], rule["labels"]["severity"]) for rule in RULES]
