"""Prometheus series under their established names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from certctl.services import counters

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
HELP: Final = {
    "certificate_total": "Managed certificates that are not archived",
    "certificate_active": "Certificates that are valid and not near expiry",
    "certificate_expiring_soon": "Certificates inside their renewal window",
    "certificate_expired": "Certificates that have expired",
    "certificate_revoked": "Certificates that were revoked",
    "agent_total": "Agents in service",
    "agent_online": "Agents with a heartbeat in the last two minutes",
    "job_pending": "Jobs that have not ended",
    "job_completed_total": "Jobs that were completed",
    "job_failed_total": "Jobs that failed for good",
    "notification_dead_total": "Notifications that nobody received",
}


class _Inventory(Collector):
    """The counts of one moment, read from the database by the caller."""

    def __init__(self, counts: Mapping[str, int], uptime: float) -> None:
        self._counts = counts
        self._uptime = uptime

    def collect(self) -> Iterable[Metric]:
        for name, text in HELP.items():
            if name.startswith("job_") and name.endswith("_total"):
                yield CounterMetricFamily(f"certctl_{name}", text, value=self._counts[name])
            else:
                yield GaugeMetricFamily(f"certctl_{name}", text, value=self._counts[name])
        yield GaugeMetricFamily(
            "certctl_uptime_seconds", "Seconds since the process began", value=self._uptime
        )


class _Planes(Collector):
    """OCSP answers of this process and of every live plane, and what the planes hold."""

    def __init__(self, planes: Sequence[Mapping[str, int]]) -> None:
        self._planes = planes

    def collect(self) -> Iterable[Metric]:
        answers = Counter[str]()
        for metric in counters.ANSWERS.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    answers[sample.labels["label"]] += int(sample.value)
        for plane in self._planes:
            answers.update({name: n for name, n in plane.items() if name != "serials"})
        told = CounterMetricFamily(
            "certctl_ocsp_counter", "OCSP responses by status", labels=["label"]
        )
        for name, number in answers.items():
            told.add_metric([name], number)
        yield told
        yield GaugeMetricFamily(
            "certctl_plane_processes", "Revocation planes that answer", value=len(self._planes)
        )
        serials = max((plane.get("serials", 0) for plane in self._planes), default=0)
        yield GaugeMetricFamily(
            "certctl_plane_serials", "Serials in the memory of each plane", value=serials
        )


def text(counts: Mapping[str, int], uptime: float, planes: Sequence[Mapping[str, int]]) -> bytes:
    """Everything in the text format 0.0.4; `uptime` in seconds, `planes` as they tell of
    themselves."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Inventory(counts, uptime))
    registry.register(_Planes(planes))
    return generate_latest(registry) + generate_latest(counters.REGISTRY)
