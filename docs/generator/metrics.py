"""Prometheus metrics, from the registries of the programs that serve them."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from slipway_controller.health import Health

from docs.generator.gateway import gateway
from docs.generator.markdown import prose, table


def page() -> str:
    """Return the page of all metrics."""
    lines = ["# Metrics", "", "Prometheus metrics of Slipway's own programs."]
    lines += ["A histogram has the series `_bucket`, `_sum` and `_count`."]
    lines += [
        "Predictors serve the metrics of MLServer.",
        "",
        "[Alerts](alerts.md) use these metrics.",
    ]
    with gateway() as served:
        found = served.metrics.registry
    for title, where, registry in (
        ("Gateway", "`/metrics` on the port `SLIPWAY_GATEWAY_METRICS_PORT`.", found),
        ("Controller", "`/metrics` on the port `SLIPWAY_CONTROLLER_PORT`.", Health().registry),
    ):
        lines += [
            "",
            f"## {title}",
            "",
            where,
            "",
            *table(("metric", "type", "labels", "meaning"), _rows(registry)),
        ]
    return "\n".join(lines)


def _rows(registry: CollectorRegistry) -> Iterator[tuple[str, str, str, str]]:
    """Yield a row per metric. Its labels are known before its first value, but to prometheus_client
    alone.
    """
    for collector in registry._collector_to_names:
        if isinstance(collector, MetricWrapperBase):
            labels = ", ".join(f"`{each}`" for each in collector._labelnames) or "–"
            for each in collector.describe():
                name = f"{each.name}_total" if each.type == "counter" else each.name
                yield f"`{name}`", each.type, labels, prose(each.documentation)
