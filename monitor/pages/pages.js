// The pages beside the stages: one is shown at a time, by the address behind `#`. Each asks the monitor while it is seen.

import { byId, clock, count, duration, make, set, table } from "/shared.js";

const refreshEveryMs = 3000;
const pages = [...document.querySelectorAll("[data-page]")];

async function ask(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, text]) => text);
  const answer = await fetch(given.length ? `${path}?${new URLSearchParams(given)}` : path);
  return { isWell: answer.ok, found: await answer.json() };
}

// What is shown of an answer goes into `target`; of an error, what is wrong.
async function show(target, path, parameters, nodes) {
  try {
    const { isWell, found } = await ask(path, parameters);
    // Closed meanwhile.
    if (!byId(target)) return;
    byId(target).replaceChildren(...(isWell ? nodes(found) : [make("p", { class: "cause" }, found.error)]));
  } catch (error) {
    if (byId(target)) set(byId(target), `The monitor did not answer: ${error.message}`);
  }
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
    ["step", "text", (step) => (step.detail ? `${step.what}: ${step.detail}` : step.what)],
    ["place", "place", place],
    ["worker", "", (step) => step.worker || ""],
    ["trace", "trace", (step) => step.trace_id || ""],
  ].filter(([, , text]) => order.steps.some(text));
  const waits = order.outstanding.map((each) => make("p", { class: "waits" },
    `waits for ${each.stage} ${each.what}, since ${time(each.since)} ${each.topic === null ? "" : `(${place(each)})`}`));
  return make("article", {},
    make("h3", {}, `${order.order_id} of ${order.seller_id || "an unknown seller"}: ${order.state}${numbers}`),
    table(shown, order.steps),
    ...(waits.length ? waits : [make("p", {}, "nothing is outstanding")]));
}

// A form that is asked for at `path` when it is sent.
function answers(form, target, path, nodes) {
  byId(form).addEventListener("submit", (event) => {
    event.preventDefault();
    // Asked by a person. What follows by itself stays readable until the next is there.
    if (event.submitter) set(byId(target), "…");
    const fields = Object.fromEntries([...new FormData(byId(form))].map(([name, text]) => [name, text.trim()]));
    show(target, path, fields, (found) => nodes(found, fields));
  });
}

answers("find", "found", "/orders", (found, { wanted }) => {
  const orders = found.orders.map(showOrder);
  if (!orders.length) orders.push(make("p", {}, `There is no order, no invoice and no buyer ${wanted}.`));
  return [...orders, ...found.gaps.map((gap) => make("p", { class: "hint" }, `note: ${gap}`))];
});

answers("find-series", "series", "/series", (found, { seller }) => {
  if (!found.series.length) return [make("p", {}, `${seller} has given no number.`)];
  return [table([
    ["series", "", (each) => each.series_id],
    ["policy", "", (each) => each.policy],
    ["last number", "number", (each) => count(each.last_number)],
    ["as printed", "", (each) => each.invoice_number || ""],
    ["given", "number", (each) => (each.at === null ? "–" : time(each.at * 1000))],
  ], found.series)];
});

function state(text, isWell) {
  return make("span", { class: `state ${isWell ? "ok" : "stalled"}` }, text);
}

const since = (at, what) => (at === null ? `No ${what} in the last 24 hours.` : `Of the last ${what}, since ${clock(at)}.`);

function showPayments(found) {
  return [
    make("h3", {}, "Circuit breakers"),
    found.breakers.length
      ? table([
        ["worker", "", (each) => each.process],
        ["breaker", "", (each) => state(each.state, each.state === "closed")],
        ["calls in flight", "number", (each) => count(each.calls)],
      ], found.breakers)
      : make("p", {}, "No payments worker says how its breaker is."),
    make("h3", {}, "Under way"),
    found.open.length
      ? table([
        ["action", "", (each) => each.action],
        ["payments", "number", (each) => count(each.count)],
        ["tried again", "number", (each) => count(each.retried)],
        ["oldest", "number", (each) => duration(each.oldest_seconds)],
      ], found.open)
      : make("p", {}, "None."),
    make("h3", {}, "Finished"),
    make("p", { class: "hint" }, since(found.since, "payments")),
    ...(found.finished.length ? [table([
      ["action", "", (each) => each.action],
      ["outcome", "", (each) => each.outcome],
      ["reason", "", (each) => each.reason],
      ["payments", "number", (each) => count(each.count)],
    ], found.finished)] : []),
  ];
}

const pieces = (value) => (value === null ? "–" : count(value));

function showStock(found) {
  return [
    ...(found.outage ? [make("p", { class: "cause" }, found.outage)] : []),
    make("h3", {}, "Hot SKUs"),
    make("p", { class: "hint" }, since(found.since, "changes of stock")),
    ...(found.skus.length ? [table([
      ["seller", "", (each) => each.seller_id],
      ["SKU", "place", (each) => each.sku],
      ["changes", "number", (each) => count(each.changes)],
      ["claimed", "number", (each) => count(each.claimed)],
      ["on hand", "number", (each) => pieces(each.on_hand)],
      ["reserved", "number", (each) => pieces(each.reserved)],
      ["free", "number", (each) => pieces(each.free)],
      ["Redis admits", "number", (each) => (each.redis === null && each.why ? "anything" : pieces(each.redis))],
      ["drift", "cause", (each) => each.why],
    ], found.skus)] : []),
    make("h3", {}, "Put right in Redis, since the stock worker started"),
    found.corrected.length
      ? table([
        ["worker", "", (each) => each.process],
        ["SKUs that differed", "number", (each) => count(each.skus)],
        ["pieces", "number", (each) => count(each.pieces)],
        ["copied in full", "number", (each) => count(each.rebuilds)],
        ["sellers incomplete", "number", (each) => count(each.incomplete_sellers)],
      ], found.corrected)
      : make("p", {}, "No stock worker says what it has put right."),
  ];
}

const ago = (text) => `${duration(Math.max(0, (Date.now() - Date.parse(text)) / 1000))} ago`;
const command = (text) => make("pre", {}, make("code", {}, text));

function showRecord(letter) {
  const record = letter.record;
  const closed = letter.closed;
  const facts = [
    ["written", `${letter.written_at} by ${letter.agent}`],
    ["error", letter.error],
    ...(closed ? [[letter.state, `${closed.at} by ${closed.by}: ${closed.why}`]] : []),
    ...(record ? [["key", record.key === null ? "none" : record.key], ["record", record.schema || `not decoded: ${record.decode_error}`]] : []),
  ];
  const value = record && (record.body ? JSON.stringify(record.body, null, 2) : record.value_base64);
  return [
    make("dl", { class: "record" }, ...facts.map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, text)))),
    ...(value ? [make("pre", {}, value)] : []),
    ...(closed ? [] : [
      make("p", { class: "hint" }, "Send its record again once the cause is repaired, or discard it:"),
      command(`gapless dead-letters redrive ${letter.id} --why "…"`),
      command(`gapless dead-letters discard ${letter.id} --why "…"`),
    ]),
  ];
}

// The rows of the letters that are open, by letter: a list that comes anew, as it does with every further letter, takes
// nothing away from its reader.
const openRows = new Map();

function idButton(letter) {
  const button = make("button", { type: "button", class: "opens", "aria-expanded": String(openRows.has(letter.id)) }, letter.id);
  button.addEventListener("click", async () => {
    if (openRows.has(letter.id)) {
      button.setAttribute("aria-expanded", "false");
      openRows.get(letter.id).remove();
      openRows.delete(letter.id);
      return;
    }
    button.setAttribute("aria-expanded", "true");
    const id = `letter-${letter.id}`;
    const row = make("tr", { class: "opened" }, make("td", { colspan: letterColumns.length, id }));
    openRows.set(letter.id, row);
    button.closest("tr").after(row);
    await show(id, `/dead-letters/${letter.id}`, {}, showRecord);
  });
  return button;
}

const letterColumns = [
  ["id", "", idButton],
  ["written", "number", (each) => ago(each.written_at)],
  ["record", "place", (each) => `${each.topic}/${each.partition} offset ${each.offset}`],
  ["order", "place", (each) => each.order_id || "–"],
  ["reason", "", (each) => each.reason],
  ["error", "cause", (each) => each.error.replace(`${each.reason}: `, "")],
];

function letterTable(letters) {
  const node = table(letterColumns, letters);
  const rows = [...node.querySelectorAll("tbody tr")];
  letters.forEach((each, at) => { if (openRows.has(each.id)) rows[at].after(openRows.get(each.id)); });
  return node;
}

function showLetters(found, fields) {
  const options = ["topic", "reason", "order", "since", "until"].filter((name) => fields[name]).map((name) => ` --${name} '${fields[name].replaceAll("'", "'\\''")}'`).join("");
  const isOpen = (fields.state || "open") === "open";
  const nodes = [make("p", {}, `${count(found.count)} ${fields.state || "open"}`)];
  // What is listed no more is read anew when it is opened again: somebody may have dealt with it.
  const listed = new Set(found.dead_letters.map((each) => each.id));
  for (const id of openRows.keys()) if (!listed.has(id)) openRows.delete(id);
  if (found.dead_letters.length) nodes.push(letterTable(found.dead_letters));
  if (found.next) {
    const more = make("button", { type: "button" }, "Older ones");
    more.addEventListener("click", () => show("letters", "/dead-letters", { ...fields, after: found.next }, (next) => showLetters(next, fields)));
    nodes.push(more);
  }
  if (isOpen && options && found.count) {
    nodes.push(make("p", { class: "hint" }, "What a redrive of all of these would send:"), command(`gapless dead-letters redrive${options} --dry-run`));
  }
  return nodes;
}

answers("find-letters", "letters", "/dead-letters", showLetters);

const sendLettersForm = () => byId("find-letters").requestSubmit();
let openLetters = null;

// Of each measurement: how many are open. The list follows where that changes.
export function showOpenDeadLetters(letters) {
  const total = letters.reduce((sum, each) => sum + each.count, 0);
  set(byId("dead-letters-link"), total ? `Dead letters (${count(total)})` : "Dead letters");
  byId("dead-letters").hidden = total === 0;
  byId("no-dead-letters").hidden = total > 0;
  byId("dead-letters").replaceChildren(...(total ? [table([
    ["topic", "", (each) => each.topic],
    ["reason", "", (each) => each.reason],
    ["open", "number", (each) => count(each.count)],
    ["oldest", "number", (each) => duration(each.oldest_seconds)],
  ], letters)] : []));
  const before = openLetters;
  openLetters = total;
  if (before !== null && before !== total && shown() === "dead-letters") sendLettersForm();
}

const refreshed = {
  payments: () => show("payments", "/payments", {}, showPayments),
  stock: () => show("stock", "/stock", {}, showStock),
};
const shown = () => pages.find((page) => !page.hidden).dataset.page;

// What is no page, such as the target of the skip link, changes nothing.
function turn() {
  const wanted = location.hash.slice(1);
  if (!pages.some((page) => page.dataset.page === wanted)) return;
  for (const page of pages) page.hidden = page.dataset.page !== wanted;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash.slice(1) === wanted) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  scrollTo(0, 0);
  if (wanted === "dead-letters") sendLettersForm();
  if (refreshed[wanted]) refreshed[wanted]();
}

addEventListener("hashchange", turn);
turn();
setInterval(() => {
  if (document.visibilityState === "visible" && refreshed[shown()]) refreshed[shown()]();
}, refreshEveryMs);
