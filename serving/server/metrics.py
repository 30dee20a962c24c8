"""Prometheus metrics of the server, with TF Serving's names where they exist."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

PATH = "/monitoring/prometheus/metrics"  # TF Serving's default
_LATENCY_BUCKETS_US = [1e3 * 2**n for n in range(17)]  # 1 ms to about a minute
_BATCH_BUCKETS = [1, 2, 4, 8, 16, 32, 64, 128, 512]


class Metrics(Collector):
    """Metrics of one server.

    Args:
        queue_length: returns the number of requests in the queue.
        available_versions: returns the versions that answer requests, by model.
    """

    def __init__(self, queue_length: Callable[[], int], available_versions: Callable[[], dict[str, list[int]]]) -> None:
        self._available_versions = available_versions
        self._registry = registry = CollectorRegistry()
        # A Gauge that only grows: this library's Counter appends `_total` to the name, TF Serving does not.
        name, text = ":tensorflow:serving:request_count", "Predict requests by outcome."
        self._requests = Gauge(name, text, ["model_name", "status"], registry=registry)
        name, text = ":tensorflow:serving:request_latency", "Latency of Predict requests in microseconds."
        labels = ["model_name", "API", "entrypoint"]
        self._latency = Histogram(name, text, labels, buckets=_LATENCY_BUCKETS_US, registry=registry)
        name, text = "serving_batch_slices", "Slices computed in one call of the network."
        self.batch_slices = Histogram(name, text, buckets=_BATCH_BUCKETS, registry=registry)
        queue = Gauge("serving_waiting_requests", "Requests in the queue.", registry=registry)
        queue.set_function(queue_length)
        registry.register(self)

    def record_request(self, model_name: str, status: str, entrypoint: str, seconds: float) -> None:
        """Record one Predict request with the name of its gRPC status."""
        # Unknown names share one series: clients could otherwise create any number of them.
        known = model_name if model_name in self._available_versions() else ""
        self._requests.labels(known, status).inc()
        self._latency.labels(known, "Predict", entrypoint).observe(seconds * 1e6)

    def render(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> list[GaugeMetricFamily]:
        """Return a sample per available version, read at each scrape: an unloaded version leaves no stale series."""
        text = "1 for a version that answers requests."
        family = GaugeMetricFamily("serving_version_available", text, None, ["model_name", "version"])
        for name, versions in self._available_versions().items():
            for version in versions:
                family.add_metric([name, str(version)], 1)
        return [family]
