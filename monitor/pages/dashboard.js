// Shows each measurement as it arrives.

import { byId, clock, count, duration, make, set } from "/shared.js";
import { showOpenDeadLetters } from "/pages.js";

const trendStepSeconds = 5;
const staleAfterMs = 3000;
const rows = new Map();
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const rate = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });

// A stage that is well always has some records in hand, and as much comes as goes: no time to drain, and no need.
const drain = (each) => {
  if (each.seconds_to_drain !== null) return duration(each.seconds_to_drain);
  return each.state === "ok" ? "–" : "not at this rate";
};

function showState(node, state) {
  node.className = `state ${state}`;
  set(node, state);
}

function chart(node, width, height, axes) {
  const options = {
    width, height,
    fmtDate: () => (at) => at.toLocaleTimeString("en-GB"),
    legend: { show: false },
    cursor: { show: axes },
    axes: axes
      ? [{ stroke: style("--dim"), grid: { show: false } },
         { stroke: style("--dim"), size: 60, values: (_, values) => values.map((each) => duration(each)) }]
      : [{ show: false }, { show: false }],
    scales: { y: { range: (_, __, high) => [0, Math.max(high || 0, 1)] } },
    series: [{}, { stroke: style("--spark"), width: 1.5, fill: `${style("--spark")}22`, points: { show: false } }],
  };
  return new uPlot(options, [[], []], node);
}

function points(trend, at) {
  return [trend.map((_, index) => at - (trend.length - 1 - index) * trendStepSeconds), trend];
}

function makeRow(stage) {
  const cells = {
    state: make("span"), cause: make("div", { class: "cause" }),
    lag_seconds: make("td", { class: "number" }), lag_records: make("td", { class: "number" }),
    in: make("td", { class: "number rate" }), out: make("td", { class: "number rate" }),
    drain: make("td", { class: "number" }), trend: make("td", { class: "trend", "aria-hidden": "true" }),
  };
  for (const [name, node] of Object.entries(cells)) node.dataset.field = name;
  const button = make("button", { type: "button", "aria-expanded": "false", "aria-controls": `open-${stage.name}` }, stage.name);
  const row = make("tr", {},
    make("th", { scope: "row" }, button, make("div", { class: "does" }, stage.does)),
    make("td", {}, cells.state, cells.cause),
    cells.lag_seconds, cells.lag_records, cells.in, cells.out, cells.drain, cells.trend);
  const inner = make("td", { colspan: "8" });
  const opened = make("tr", { class: "opened", id: `open-${stage.name}` }, inner);
  opened.hidden = true;
  const body = make("tbody", { class: "stage" }, row, opened);
  body.dataset.stage = stage.name;
  byId("stages-table").append(body);
  const made = { body, cells, inner, opened, latest: stage, at: 0, spark: chart(cells.trend, 180, 30, false), chart: null };
  button.addEventListener("click", () => {
    opened.hidden = !opened.hidden;
    button.setAttribute("aria-expanded", String(!opened.hidden));
    if (opened.hidden) close(made); else open(made);
  });
  return made;
}

const columns = [
  ["topic", "", (each) => each.topic],
  ["partition", "number", (each) => String(each.partition)],
  ["state", "", null],
  ["behind", "number", (each) => duration(each.lag_seconds)],
  ["records", "number", (each) => count(each.lag_records)],
  ["in /s", "number rate", (each) => rate(each.rates.in_10s)],
  ["out /s", "number rate", (each) => rate(each.rates.out_10s)],
  ["in /s, 1 min", "number rate", (each) => rate(each.rates.in_1m)],
  ["out /s, 1 min", "number rate", (each) => rate(each.rates.out_1m)],
  ["drained in", "number", drain],
  ["owner", "", (each) => each.owner || "–"],
  ["last moved", "number", (each) => clock(each.moved_at)],
  ["cause", "cause", (each) => each.cause],
];

function open(made) {
  const heads = columns.map(([name, kind]) => make("th", { scope: "col", class: kind }, name));
  made.partitions = make("tbody");
  const holder = make("div");
  made.inner.replaceChildren(
    make("h3", {}, "seconds behind, last 15 minutes"), holder,
    make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), made.partitions)));
  made.chart = chart(holder, Math.max(240, holder.clientWidth), 140, true);
  fill(made);
}

function close(made) {
  if (made.chart) made.chart.destroy();
  made.chart = null;
  made.inner.replaceChildren();
}

function fill(made) {
  made.chart.setData(points(made.latest.trend, made.at));
  const wanted = made.latest.partitions;
  while (made.partitions.children.length > wanted.length) made.partitions.lastChild.remove();
  while (made.partitions.children.length < wanted.length) {
    made.partitions.append(make("tr", {}, ...columns.map(([, kind, text]) =>
      make("td", { class: kind }, ...(text === null ? [make("span")] : [])))));
  }
  wanted.forEach((each, index) => {
    const row = made.partitions.children[index];
    row.dataset.at = `${each.topic}/${each.partition}`;
    columns.forEach(([, , text], column) => {
      if (text === null) showState(row.children[column].firstChild, each.state);
      else set(row.children[column], text(each));
    });
  });
}

function showStage(stage, at) {
  if (!rows.has(stage.name)) rows.set(stage.name, makeRow(stage));
  const made = rows.get(stage.name);
  made.latest = stage;
  made.at = at;
  showState(made.cells.state, stage.state);
  set(made.cells.cause, stage.cause);
  set(made.cells.lag_seconds, duration(stage.lag_seconds));
  set(made.cells.lag_records, count(stage.lag_records));
  set(made.cells.in, rate(stage.rates.in_10s));
  set(made.cells.out, rate(stage.rates.out_10s));
  set(made.cells.drain, drain(stage));
  made.spark.setData(points(stage.trend, at));
  if (made.chart) fill(made);
}

function showProcess(process) {
  const state = make("span", { class: `state ${process.is_ready ? "ok" : "stalled"}` }, process.name);
  const node = make("li", {}, state);
  node.dataset.process = process.name;
  if (!process.is_ready) node.append(make("span", { class: "cause" }, ` ${process.says}`));
  return node;
}

function show(measurement) {
  const wrong = measurement.stages.filter((stage) => stage.state !== "ok");
  const names = (state) => wrong.filter((stage) => stage.state === state).map((stage) => stage.name).join(", ");
  const parts = ["stalled", "behind"].filter(names).map((state) => `${state}: ${names(state)}`);
  set(byId("summary"), parts.join("; ") || "All stages are ok.");
  document.title = parts.length ? `gapless: ${parts.join("; ")}` : "gapless";
  set(byId("clock"), `measured ${clock(measurement.at)}`);
  byId("outage").hidden = !measurement.outage;
  if (measurement.outage) set(byId("outage"), `Nothing can be measured since ${clock(measurement.at)}: ${measurement.outage}`);
  for (const node of document.querySelectorAll("[data-headline]")) {
    const name = node.dataset.headline;
    const value = measurement.headline[name];
    set(node, name.endsWith("per_second") ? rate(value) : duration(value));
  }
  for (const node of document.querySelectorAll("[data-payments]")) {
    const name = node.dataset.payments;
    const value = measurement.payments[name];
    set(node, name.endsWith("seconds") ? duration(value) : count(value));
  }
  byId("probe").hidden = !measurement.probe;
  if (measurement.probe) {
    for (const node of document.querySelectorAll("[data-probe]")) {
      const value = measurement.probe[node.dataset.probe];
      set(node, typeof value === "string" ? value : duration(value));
    }
  }
  showOpenDeadLetters(measurement.dead_letters);
  for (const stage of measurement.stages) showStage(stage, measurement.at);
  byId("processes").replaceChildren(...measurement.processes.map(showProcess));
}

let heardAt = Date.now();
const source = new EventSource("/events");
source.addEventListener("message", (event) => {
  heardAt = Date.now();
  show(JSON.parse(event.data));
});
setInterval(() => {
  if (Date.now() - heardAt < staleAfterMs) return;
  byId("outage").hidden = false;
  set(byId("outage"), `The monitor has sent nothing since ${clock(heardAt / 1000)}; these figures are old.`);
}, 1000);
