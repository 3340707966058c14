"""What is asked of Prometheus by the alerts, the dashboard and the scalers: every expression, taken apart."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import promql_parser
import yaml

from tests.deploy.composition import CHECKOUT
from tests.deploy.manifests import of_kind, sources

ALERTS = CHECKOUT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = CHECKOUT / "deploy" / "grafana" / "dashboards" / "kshot.json"
_GRAFANA = {"$__rate_interval": "5m", "$route": ".*"}


@dataclass(frozen=True)
class Asked:
    """A metric that an expression names, with the labels that it compares (and the values it compares exactly), groups
    or joins by, or leaves out."""

    place: str
    metric: str
    labels: frozenset[str]
    values: frozenset[tuple[str, str]]


def expressions() -> Iterator[tuple[str, str]]:
    """Where each stands, and what it says, with Grafana's variables filled in."""
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"]
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            text = target["expr"]
            for variable, value in _GRAFANA.items():
                text = text.replace(variable, value)
            yield f"panel {panel['title']}", text
    for scaled in of_kind(sources(), "ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            yield f"scaler {scaled['metadata']['name']}", trigger["metadata"]["query"]


def asked() -> list[Asked]:
    """All metrics of all expressions. Raises ValueError where one does not parse."""
    return [one for place, text in expressions() for one in _walk(place, promql_parser.parse(text), frozenset())]


def _walk(place: str, expression: promql_parser.Expr, around: frozenset[str]) -> Iterator[Asked]:
    if isinstance(expression, promql_parser.VectorSelector):
        matchers = expression.matchers.matchers
        exact = frozenset((one.name, one.value) for one in matchers if one.op == promql_parser.MatchOp.Equal)
        labels = around | {one.name for one in matchers}
        yield Asked(place, str(expression.name), frozenset(labels), exact)
    elif isinstance(expression, promql_parser.MatrixSelector):
        yield from _walk(place, expression.vector_selector, around)
    elif isinstance(expression, promql_parser.AggregateExpr):
        yield from _walk(place, expression.expr, around | _labels(expression.modifier))
    elif isinstance(expression, promql_parser.BinaryExpr):
        joined = around | _labels(expression.modifier.matching if expression.modifier else None)
        yield from _walk(place, expression.lhs, joined)
        yield from _walk(place, expression.rhs, joined)
    elif isinstance(expression, promql_parser.Call):
        for argument in expression.args:
            yield from _walk(place, argument, around)
    elif isinstance(expression, promql_parser.ParenExpr | promql_parser.UnaryExpr | promql_parser.SubqueryExpr):
        yield from _walk(place, expression.expr, around)
    elif not isinstance(expression, promql_parser.NumberLiteral | promql_parser.StringLiteral):
        raise TypeError(f"{place}: {type(expression).__name__}")


def _labels(
    modifier: promql_parser.AggModifier | promql_parser.LabelModifier | None,
) -> frozenset[str]:
    return frozenset(modifier.labels) if modifier is not None else frozenset()


def templated_labels(text: str) -> set[str]:
    """Labels that an annotation or a legend shows."""
    return set(re.findall(r"\$labels\.(\w+)", text)) | set(re.findall(r"\{\{(\w+)\}\}", text))
