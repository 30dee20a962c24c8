"""What the embedded server tells Prometheus, under TF Serving's names where it has them."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

PATH = "/monitoring/prometheus/metrics"  # TF Serving's default
_LATENCY_MICROSECONDS = [1e3 * 2**n for n in range(17)]  # 1 ms to about a minute


class Metrics:
    """Counts of one server.

    Args:
        waiting: the length of the queue now.
        shown: the versions that answer now, by model.
    """

    def __init__(self, waiting: Callable[[], int], shown: Callable[[], dict[str, list[int]]]) -> None:
        self._registry = CollectorRegistry()
        self._shown = shown
        # Gauges that only grow: this library's Counter would append `_total`, which TF Serving's name has not.
        self._requests = Gauge(
            ":tensorflow:serving:request_count",
            "Predict requests by outcome.",
            ["model_name", "status"],
            registry=self._registry,
        )
        self._latency = Histogram(
            ":tensorflow:serving:request_latency",
            "Microseconds from a Predict request's arrival to its answer.",
            ["model_name", "API", "entrypoint"],
            buckets=_LATENCY_MICROSECONDS,
            registry=self._registry,
        )
        self.batch_slices = Histogram(
            "serving_batch_slices",
            "Slices computed in one call of the network.",
            buckets=[1, 2, 4, 8, 16, 32, 64, 128, 512],
            registry=self._registry,
        )
        queue = Gauge("serving_waiting_requests", "Requests in the queue.", registry=self._registry)
        queue.set_function(waiting)
        self._registry.register(_Versions(shown))

    def count(self, model: str, status: str, entrypoint: str, seconds: float) -> None:
        """Note one Predict request; a status is a gRPC status by name."""
        # Names that callers invent would grow the table without bound.
        known = model if model in self._shown() else ""
        self._requests.labels(known, status).inc()
        self._latency.labels(known, "Predict", entrypoint).observe(seconds * 1e6)

    def text(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self._registry)


class _Versions(Collector):
    """Which versions answer; read when asked, so that a version that is gone leaves no trace."""

    def __init__(self, shown: Callable[[], dict[str, list[int]]]) -> None:
        self._shown = shown

    def collect(self) -> list[GaugeMetricFamily]:
        """List them."""
        family = GaugeMetricFamily(
            "serving_version_available", "1 for a version that answers.", None, ["model_name", "version"]
        )
        for name, versions in self._shown().items():
            for version in versions:
                family.add_metric([name, str(version)], 1)
        return [family]
