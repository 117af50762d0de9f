"""The dashboards: `ops/grafana/dashboards/*.json` are generated from here.

Each panel is a row of a table below: its title, its unit, and its expressions with their legends.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

#: The data source that `ops/grafana/datasource.yml` provisions.
DATASOURCE_UID = "gapless-prometheus"
FOLDER = "ops/grafana/dashboards"

_SOURCE = models.DataSourceRef(type_val="prometheus", uid=DATASOURCE_UID)
#: Of a grid of 24 columns.
_STAT_SIZE = (4, 4)
_CHART_SIZE = (8, 8)

SECONDS = "s"
COUNT = "short"
PER_SECOND = "ops"
BYTES = "bytes"
SHARE = "percentunit"


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart of one or more expressions; with `is_stat`, a large figure, and with `states`, a band of colours."""

    title: str
    unit: str
    #: PromQL → legend.
    series: dict[str, str]
    is_stat: bool = False
    #: Value → what it means and its colour.
    states: Sequence[tuple[str, str]] = ()


def _rate(metric: str, by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} (rate({metric}[$__rate_interval]))"


def _quantiles(metric: str, by: str = "") -> dict[str, str]:
    """The median and the 99th percentile of a histogram."""
    labels, legend = (f"le, {by}", f"{{{{{by}}}}} ") if by else ("le", "")
    rates = f"sum by ({labels}) (rate({metric}_bucket[$__rate_interval]))"
    return {f"histogram_quantile({q}, {rates})": f"{legend}{name}" for q, name in ((0.5, "p50"), (0.99, "p99"))}


def _stat(title: str, unit: str, expr: str) -> Panel:
    return Panel(title, unit, {expr: title}, is_stat=True)


#: What buyers notice, and where it waits.
ORDERS: dict[str, list[Panel]] = {
    "Now": [
        _stat("Accepted", PER_SECOND, "max(gapless_accepted_per_second)"),
        _stat("Numbered", PER_SECOND, "max(gapless_numbered_per_second)"),
        _stat("Accepted to numbered, p99", SECONDS, 'max(gapless_numbering_seconds{percentile="99"})'),
        _stat("Oldest order under way", SECONDS, "max(gapless_oldest_order_seconds)"),
        _stat("Open dead letters", COUNT, "sum(gapless_open_dead_letters) or vector(0)"),
        _stat("Alerts firing", COUNT, 'count(ALERTS{alertstate="firing"}) or vector(0)'),
    ],
    "Stages": [
        Panel(
            "State",
            COUNT,
            {
                'max by (stage) (gapless_stage_state{state="behind"})'
                ' + 2 * max by (stage) (gapless_stage_state{state="stalled"})': "{{stage}}"
            },
            states=(("ok", "green"), ("behind", "yellow"), ("stalled", "red")),
        ),
        Panel("Seconds behind", SECONDS, {"max by (stage) (gapless_lag_seconds)": "{{stage}}"}),
        Panel("Records behind", COUNT, {"sum by (stage) (gapless_lag_records)": "{{stage}}"}),
        Panel(
            "Worst partitions",
            SECONDS,
            {"topk(5, max by (stage, topic, partition) (gapless_lag_seconds))": ("{{stage}} {{topic}}/{{partition}}")},
        ),
        Panel("Time to drain", SECONDS, {"max by (stage) (gapless_time_to_drain_seconds)": "{{stage}}"}),
        Panel(
            "From accepted to numbered",
            SECONDS,
            {
                'max(gapless_numbering_seconds{percentile="50"})': "p50",
                'max(gapless_numbering_seconds{percentile="99"})': "p99",
            },
        ),
        Panel(
            "Rates",
            PER_SECOND,
            {"max(gapless_accepted_per_second)": "accepted", "max(gapless_numbered_per_second)": "numbered"},
        ),
        Panel(
            "Probe",
            SECONDS,
            {"max(gapless_probe_number_seconds)": "to number", "max(gapless_probe_document_seconds)": "to document"},
        ),
        Panel(
            "Processes that are not ready",
            COUNT,
            {"sum(1 - gapless_process_ready) or vector(0)": "not ready"},
        ),
        Panel(
            "Age of these figures", SECONDS, {"time() - max(gapless_monitor_measured_timestamp_seconds)": "measured"}
        ),
        Panel(
            "Open dead letters",
            COUNT,
            {"sum by (topic, reason) (gapless_open_dead_letters)": "{{topic}}: {{reason}}"},
        ),
    ],
    "Gateway": [
        Panel("Requests", PER_SECOND, {_rate("gapless_gateway_request_seconds_count", "status"): "{{status}}"}),
        Panel("Response time", SECONDS, _quantiles("gapless_gateway_request_seconds")),
        Panel("Acknowledgement by the brokers", SECONDS, _quantiles("gapless_gateway_acknowledge_seconds")),
        Panel(
            "Under way",
            COUNT,
            {"sum(gapless_gateway_in_flight)": "requests", "sum(gapless_gateway_waiters)": "waiting clients"},
        ),
        Panel(
            "Accepted",
            PER_SECOND,
            {
                _rate("gapless_gateway_accepted_total"): "invoice requests",
                _rate("gapless_gateway_checkouts_total", "outcome"): "checkouts {{outcome}}",
                _rate("gapless_gateway_commands_total", "action"): "command {{action}}",
            },
        ),
        Panel("Not acknowledged", PER_SECOND, {_rate("gapless_gateway_not_acknowledged_total"): "requests"}),
        Panel(
            "Products read",
            PER_SECOND,
            {_rate("gapless_gateway_catalogue_reads_total", "source"): "{{source}}"},
        ),
    ],
    "Orders and payments": [
        Panel("Checkouts", PER_SECOND, {_rate("gapless_checkouts_total", "outcome"): "{{outcome}}"}),
        Panel(
            "Order inputs",
            PER_SECOND,
            {_rate("gapless_order_inputs_total", "trigger, outcome"): "{{trigger}} {{outcome}}"},
        ),
        Panel(
            "Invoices and documents",
            PER_SECOND,
            {
                _rate("gapless_invoice_requests_total", "outcome"): "{{outcome}}",
                _rate("gapless_documents_stored_total"): "document stored",
            },
        ),
        Panel(
            "Provider calls",
            PER_SECOND,
            {_rate("gapless_payment_calls_total", "action, outcome"): "{{action}} {{outcome}}"},
        ),
        Panel(
            "Payment attempts",
            COUNT,
            {
                "max(gapless_payment_attempts_open)": "open",
                "sum(gapless_payment_calls_in_flight)": "being called for",
            },
        ),
        Panel("Orders that hold stock until they are paid", COUNT, {"max(gapless_holds)": "orders"}),
        Panel("Oldest payment attempt", SECONDS, {"max(gapless_payment_attempts_oldest_seconds)": "oldest"}),
        Panel("Finished attempts", PER_SECOND, {_rate("gapless_payment_attempts_total", "state"): "{{state}}"}),
        Panel(
            "Attempts of another provider",
            PER_SECOND,
            {_rate("gapless_payment_attempts_foreign_total", "provider"): "{{provider}}"},
        ),
        Panel(
            "Provider's refunds listed",
            SECONDS,
            {"max by (provider) (gapless_refunds_listed_seconds)": "{{provider}}, ago"},
        ),
        Panel(
            "Provider's circuit breaker",
            COUNT,
            {
                'max by (instance) (gapless_payment_breaker{state="half-open"})'
                ' + 2 * max by (instance) (gapless_payment_breaker{state="open"})': "{{instance}}"
            },
            states=(("closed", "green"), ("half-open", "yellow"), ("open", "red")),
        ),
    ],
}

#: What the processes do, and what they need.
PROCESSES: dict[str, list[Panel]] = {
    "Processes": [
        Panel(
            "Up",
            COUNT,
            {'up{job="gapless"}': "{{role}} {{instance}}"},
            states=(("down", "red"), ("up", "green")),
        ),
        Panel(
            "CPU",
            SHARE,
            {'sum by (role) (rate(process_cpu_seconds_total{job="gapless"}[$__rate_interval]))': "{{role}}"},
        ),
        Panel("Memory", BYTES, {'max by (role) (process_resident_memory_bytes{job="gapless"})': "{{role}}"}),
        Panel("Open files", COUNT, {'max by (role) (process_open_fds{job="gapless"})': "{{role}}"}),
        Panel(
            "Disk left",
            SHARE,
            {
                'min by (instance, mountpoint) (node_filesystem_avail_bytes{fstype!~"tmpfs|ramfs|squashfs"}'
                " / node_filesystem_size_bytes)": "{{instance}} {{mountpoint}}"
            },
        ),
        Panel("Journal months left", SECONDS, {"max(gapless_journal_end_timestamp_seconds) - time()": "left"}),
    ],
    "Workers": [
        Panel("Records", PER_SECOND, {_rate("gapless_records_total", "agent"): "{{agent}}"}),
        Panel(
            "Batches by standing",
            PER_SECOND,
            {_rate("gapless_batches_total", "agent, standing"): "{{agent}} {{standing}}"},
        ),
        Panel("Batch time", SECONDS, _quantiles("gapless_batch_seconds", "agent")),
        Panel("Retries in outages", PER_SECOND, {_rate("gapless_outage_retries_total", "agent"): "{{agent}}"}),
        Panel("Holes in logs", PER_SECOND, {_rate("gapless_log_holes_total", "agent"): "{{agent}}"}),
    ],
    "Analytics": [
        Panel("Events counted", PER_SECOND, {_rate("gapless_analytics_events_total", "what"): "{{what}}"}),
        Panel("Events of archived months", PER_SECOND, {_rate("gapless_analytics_archived_total"): "not counted"}),
    ],
    "Relay": [
        Panel("Published", PER_SECOND, {_rate("gapless_relay_published_total", "topic"): "{{topic}}"}),
        Panel(
            "Not yet published",
            COUNT,
            {"sum by (topic) (max by (topic, partition) (gapless_relay_unpublished))": "{{topic}}"},
        ),
        Panel("Partitions", COUNT, {"sum by (instance) (gapless_relay_partitions)": "{{instance}}"}),
    ],
    "Deliveries": [
        Panel("Written", PER_SECOND, {_rate("gapless_deliveries_made_total", "type"): "{{type}}"}),
        Panel(
            "Tries",
            PER_SECOND,
            {_rate("gapless_delivery_attempts_total", "channel, outcome"): "{{channel}} {{outcome}}"},
        ),
        Panel("Call time", SECONDS, _quantiles("gapless_delivery_call_seconds", "channel")),
        Panel("From written to arrived", SECONDS, _quantiles("gapless_delivery_arrived_seconds", "channel")),
        Panel(
            "Under way",
            COUNT,
            {
                "max by (channel) (gapless_deliveries_due)": "{{channel}}: orders with a delivery under way",
                "sum by (channel) (gapless_deliveries_in_flight)": "{{channel}}: calls in flight",
                "max by (channel) (gapless_deliveries_destinations_open)": "{{channel}}: destinations without answer",
            },
        ),
        Panel("Oldest under way", SECONDS, {"max by (channel) (gapless_deliveries_oldest_seconds)": "{{channel}}"}),
        Panel(
            "Endpoints disabled",
            COUNT,
            {"sum by (reason) (increase(gapless_webhook_endpoints_disabled_total[$__rate_interval]))": "{{reason}}"},
        ),
    ],
    "Search": [
        Panel("Questions", PER_SECOND, {_rate("gapless_search_queries_total", "outcome"): "{{outcome}}"}),
        Panel("Time to answer", SECONDS, _quantiles("gapless_search_seconds")),
        Panel("Behind the topics", SECONDS, {"max by (instance) (gapless_search_lag_seconds)": "{{instance}}"}),
        Panel("Records to index", COUNT, {"max by (instance) (gapless_search_lag_records)": "{{instance}}"}),
        Panel("Documents", COUNT, {"max by (instance) (gapless_search_documents)": "{{instance}}"}),
        Panel(
            "Failures",
            COUNT,
            {
                "sum(increase(gapless_search_rebuilds_total[$__rate_interval]))": "indexes rebuilt",
                "sum(increase(gapless_search_undecodable_total[$__rate_interval]))": "records not indexed",
                "sum(increase(gapless_gateway_search_failures_total[$__rate_interval]))": "questions not answered",
            },
        ),
    ],
    "Redis": [
        Panel("Admissions", PER_SECOND, {_rate("gapless_admissions_total", "verdict"): "{{verdict}}"}),
        Panel("Stock events", PER_SECOND, {_rate("gapless_stock_events_total", "outcome"): "{{outcome}}"}),
        Panel("Hints available", COUNT, {"min(gapless_gateway_hints_available)": "gateways"}),
        Panel(
            "Drift",
            COUNT,
            {
                "sum(increase(gapless_stock_drifts_total[$__rate_interval]))": "SKUs",
                "sum(increase(gapless_stock_drift_pieces_total[$__rate_interval]))": "pieces",
            },
        ),
        Panel(
            "Sellers copied in full",
            COUNT,
            {"sum(increase(gapless_stock_rebuilds_total[$__rate_interval]))": "sellers"},
        ),
        Panel("Sellers not complete", COUNT, {"max(gapless_stock_incomplete_sellers)": "sellers"}),
    ],
    "Auditor": [
        Panel("Violations", COUNT, {"max by (check) (gapless_audit_violations)": "{{check}}"}),
        Panel(
            "Unchecked",
            SECONDS,
            {
                "min(gapless_audit_unchecked_seconds)": "oldest row not checked",
                "time() - max(gapless_audit_clean_timestamp_seconds)": "since the last clean round began",
            },
        ),
        Panel("Round", SECONDS, {"max(gapless_audit_round_seconds)": "duration"}),
        Panel(
            "Checked",
            PER_SECOND,
            {
                _rate("gapless_audit_rows_total"): "rows",
                _rate("gapless_audit_records_total"): "records",
                _rate("gapless_audit_rounds_total"): "rounds",
                _rate("gapless_audit_outages_total"): "rounds abandoned",
            },
        ),
        Panel("In progress", COUNT, {"max by (what) (gapless_audit_waiting)": "{{what}}"}),
        Panel("In progress for", SECONDS, {"max by (what) (gapless_audit_waiting_seconds)": "{{what}}"}),
    ],
}

#: File's name → title, and rows of panels.
DASHBOARDS = {"orders": ("gapless: orders", ORDERS), "processes": ("gapless: processes", PROCESSES)}


def render(name: str) -> str:
    """The file of the dashboard."""
    title, rows = DASHBOARDS[name]
    made = (
        dashboard.Dashboard(title)
        .uid(f"gapless-{name}")
        .tags(["gapless"])
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("gapless")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["gapless"])
            .keep_time(True)
        )
    )
    number = 0
    for row, panels in rows.items():
        number += 1
        made.with_row(dashboard.Row(row).id(number))
        for panel in panels:
            number += 1
            made.with_panel(_built(panel).id(number))
    text: str = JSONEncoder(sort_keys=True, indent=2).encode(made.build())
    return text + "\n"


def _built(panel: Panel) -> stat.Panel | statetimeline.Panel | timeseries.Panel:
    made: stat.Panel | statetimeline.Panel | timeseries.Panel
    if panel.is_stat:
        width, height = _STAT_SIZE
        made = stat.Panel().graph_mode(common_models.BigValueGraphMode.AREA)
    elif panel.states:
        width, height = _CHART_SIZE
        results = {
            str(value): models.ValueMappingResult(text=text, color=color, index=value)
            for value, (text, color) in enumerate(panel.states)
        }
        made = statetimeline.Panel().mappings([models.ValueMap(results)])
    else:
        width, height = _CHART_SIZE
        legend = (
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
        )
        made = timeseries.Panel().legend(legend).min(0).fill_opacity(10)
    made = made.title(panel.title).unit(panel.unit).datasource(_SOURCE).span(width).height(height)
    for ref, (expr, legend_format) in zip("ABCDEFGH", panel.series.items(), strict=False):
        made.with_target(prometheus.Dataquery().expr(expr).legend_format(legend_format).ref_id(ref).datasource(_SOURCE))
    return made
