"use strict";
// Shows each measurement as it arrives. Text goes in as text, never as HTML: order ids and reasons are other people's.
(() => {
  const trendStepSeconds = 5;
  const staleAfterMs = 3000;
  const rows = new Map();
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const byId = (id) => document.getElementById(id);

  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  function set(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  const count = (value) => value.toLocaleString("en", { maximumFractionDigits: 0 });
  const rate = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });

  function duration(seconds) {
    if (seconds === null) return "–";
    if (seconds === 0) return "0 s";
    if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
    const whole = Math.round(seconds);
    if (whole < 60) return `${whole} s`;
    if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
    const minutes = Math.round(seconds / 60);
    if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
    return `${count(seconds / 86400)} days`;
  }

  // A stage that is well always has some records in hand, and as much comes as goes: no time to drain, and no need.
  const drain = (each) => {
    if (each.seconds_to_drain !== null) return duration(each.seconds_to_drain);
    return each.state === "ok" ? "–" : "not at this rate";
  };
  const clock = (at) => (at === null ? "–" : new Date(at * 1000).toLocaleTimeString("en-GB"));

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
    byId("stages").append(body);
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
    byId("dead-letters").hidden = measurement.dead_letters.length === 0;
    byId("no-dead-letters").hidden = measurement.dead_letters.length > 0;
    byId("dead-letters").tBodies[0].replaceChildren(...measurement.dead_letters.map((each) => make("tr", {},
      make("td", {}, each.topic), make("td", {}, each.reason),
      make("td", { class: "number" }, count(each.count)), make("td", { class: "number" }, duration(each.oldest_seconds)))));
    for (const stage of measurement.stages) showStage(stage, measurement.at);
    byId("processes").replaceChildren(...measurement.processes.map(showProcess));
  }

  const time = (at) => (at === null ? "–" : new Date(at).toISOString().replace("T", " ").slice(0, 23));

  function place(step) {
    if (step.topic === null) return "";
    const where = `${step.topic}/${step.partition}`;
    if (step.offset !== null) return `${where} offset ${step.offset}`;
    return step.seq === null ? where : `${where} seq ${step.seq}`;
  }

  function showOrder(order) {
    const numbers = order.numbers.length ? `, ${order.numbers.join(", ")}` : "";
    const shown = [
      ["time (UTC)", "number", (step) => time(step.at)],
      ["by", "", (step) => step.by],
      ["step", "", (step) => (step.detail ? `${step.what}: ${step.detail}` : step.what)],
      ["place", "place", place],
      ["worker", "", (step) => step.worker || ""],
      ["trace", "trace", (step) => step.trace_id || ""],
    ].filter(([, , text]) => order.steps.some(text));
    const heads = shown.map(([name]) => make("th", { scope: "col" }, name));
    const steps = order.steps.map((step) => make("tr", {},
      ...shown.map(([, kind, text]) => make("td", { class: kind }, text(step)))));
    const waits = order.outstanding.map((each) => make("p", { class: "waits" },
      `waits for ${each.stage} ${each.what}, since ${time(each.since)} ${each.topic === null ? "" : `(${place(each)})`}`));
    return make("article", {},
      make("h3", {}, `${order.order_id} of ${order.seller_id || "an unknown seller"}: ${order.state}${numbers}`),
      make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...steps))),
      ...(waits.length ? waits : [make("p", {}, "nothing is outstanding")]));
  }

  // A form whose one field is asked for at `path`; `nodes` makes what is shown of the answer.
  function lookUp(form, input, target, path, nodes) {
    byId(form).addEventListener("submit", async (event) => {
      event.preventDefault();
      const wanted = byId(input).value.trim();
      set(byId(target), "…");
      try {
        const answer = await fetch(`${path}?${new URLSearchParams({ [input]: wanted })}`);
        const found = await answer.json();
        const shown = found.error ? [make("p", { class: "cause" }, found.error)] : nodes(found, wanted);
        byId(target).replaceChildren(...shown);
      } catch (error) {
        set(byId(target), `The monitor did not answer: ${error.message}`);
      }
    });
  }

  lookUp("find", "wanted", "found", "/orders", (found, wanted) => {
    const orders = found.orders.map(showOrder);
    if (!orders.length) orders.push(make("p", {}, `There is no order, no invoice and no buyer ${wanted}.`));
    return [...orders, ...found.gaps.map((gap) => make("p", { class: "hint" }, `note: ${gap}`))];
  });

  lookUp("find-series", "seller", "series", "/series", (found, seller) => {
    if (!found.series.length) return [make("p", {}, `${seller} has given no number.`)];
    const heads = [["series", ""], ["policy", ""], ["last number", "number"], ["as printed", ""], ["given", "number"]];
    return [make("table", {},
      make("thead", {}, make("tr", {}, ...heads.map(([name, kind]) => make("th", { scope: "col", class: kind }, name)))),
      make("tbody", {}, ...found.series.map((each) => make("tr", {},
        make("td", {}, each.series_id), make("td", {}, each.policy),
        make("td", { class: "number" }, count(each.last_number)), make("td", {}, each.invoice_number || ""),
        make("td", { class: "number" }, each.at === null ? "–" : time(each.at * 1000))))))];
  });

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
})();
