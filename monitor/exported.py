"""The measurements as Prometheus reads them."""

import math
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from monitor.figures import Measurement, StageState


class MeasurementCollector(Collector):
    """Gauges of the last measurement; none before the first, and none of what nobody knows."""

    def __init__(self, latest: Callable[[], Measurement | None]) -> None:
        self._latest = latest

    def describe(self) -> Iterator[Metric]:
        """Nothing is measured for the registry to learn the names."""
        yield from _families()

    def collect(self) -> Iterator[Metric]:
        """All of it."""
        measurement = self._latest()
        if measurement is not None:
            yield from _filled(measurement)


def _families() -> tuple[GaugeMetricFamily, ...]:
    return (
        GaugeMetricFamily(
            "gapless_lag_records",
            "Records that wait for a stage in a partition.",
            labels=["stage", "topic", "partition"],
        ),
        GaugeMetricFamily(
            "gapless_lag_seconds", "Age of the oldest record that waits.", labels=["stage", "topic", "partition"]
        ),
        GaugeMetricFamily(
            "gapless_time_to_drain_seconds",
            "Until nothing waits for a stage, by its slowest partition; +Inf where it never ends at this rate.",
            labels=["stage"],
        ),
        GaugeMetricFamily("gapless_stage_state", "1 for the state that a stage is in.", labels=["stage", "state"]),
        GaugeMetricFamily("gapless_accepted_per_second", "Orders accepted, over the last ten seconds."),
        GaugeMetricFamily("gapless_numbered_per_second", "Numbers given, over the last ten seconds."),
        GaugeMetricFamily(
            "gapless_numbering_seconds",
            "From the brokers' acknowledgement of an order to its number, of a sample of the last minute.",
            labels=["percentile"],
        ),
        GaugeMetricFamily("gapless_oldest_order_seconds", "Age of the oldest order that waits for anything."),
        GaugeMetricFamily("gapless_holds", "Orders that hold stock until their payment is known."),
        GaugeMetricFamily(
            "gapless_open_dead_letters", "Dead letters neither redriven nor discarded.", labels=["topic", "reason"]
        ),
        GaugeMetricFamily("gapless_process_ready", "Whether a process says that it is ready.", labels=["process"]),
        GaugeMetricFamily("gapless_probe_number_seconds", "From the probe's request to its number."),
        GaugeMetricFamily("gapless_probe_document_seconds", "From the probe's request to its document."),
        GaugeMetricFamily("gapless_monitor_measured_timestamp_seconds", "When all of this was measured."),
    )


def _filled(measurement: Measurement) -> Iterator[Metric]:
    families = {family.name: family for family in _families()}

    def add(name: str, value: float | None, *labels: str) -> None:
        if value is not None:
            families[name].add_metric(labels, value)

    for stage in measurement.stages:
        for each in stage.partitions:
            add("gapless_lag_records", each.lag_records, stage.name, each.topic, str(each.partition))
            add("gapless_lag_seconds", each.lag_seconds, stage.name, each.topic, str(each.partition))
        drain = stage.seconds_to_drain
        add("gapless_time_to_drain_seconds", math.inf if drain is None else drain, stage.name)
        for state in StageState:
            add("gapless_stage_state", float(state is stage.state), stage.name, state.value)
    headline = measurement.headline
    add("gapless_accepted_per_second", headline.accepted_per_second)
    add("gapless_numbered_per_second", headline.numbered_per_second)
    add("gapless_numbering_seconds", headline.numbering_seconds_p50, "50")
    add("gapless_numbering_seconds", headline.numbering_seconds_p99, "99")
    add("gapless_oldest_order_seconds", headline.oldest_order_seconds)
    add("gapless_holds", measurement.payments.holds)
    for letters in measurement.dead_letters:
        add("gapless_open_dead_letters", letters.count, letters.topic, letters.reason)
    for process in measurement.processes:
        add("gapless_process_ready", float(process.is_ready), process.name)
    if measurement.probe is not None:
        add("gapless_probe_number_seconds", measurement.probe.number_seconds)
        add("gapless_probe_document_seconds", measurement.probe.document_seconds)
    add("gapless_monitor_measured_timestamp_seconds", measurement.at)
    yield from families.values()
