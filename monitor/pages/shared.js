// Text goes in as text, never as HTML: order ids and reasons are other people's.

export const byId = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export const count = (value) => value.toLocaleString("en", { maximumFractionDigits: 0 });
export const clock = (at) => (at === null ? "–" : new Date(at * 1000).toLocaleTimeString("en-GB"));

export function duration(seconds) {
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

// Columns are [heading, class, text of a row]; a text that is a node goes in as it is.
export function table(columns, rows) {
  const heads = columns.map(([name, kind]) => make("th", { scope: "col", class: kind }, name));
  const lines = rows.map((row) => make("tr", {}, ...columns.map(([, kind, text]) => make("td", { class: kind }, text(row)))));
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...lines)));
}
