// Draws the charts from the page's own table, and asks for the page again: what is shown is what the server wrote.

const refreshMs = 5000;
const live = document.getElementById("live");
const status = document.getElementById("status");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
let drawn = [];

function readTable() {
  const table = document.getElementById("series");
  if (table === null) return null;
  const names = [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent);
  const rows = [...table.tBodies[0].rows];
  const times = rows.map((row) => Date.parse(row.dataset.at) / 1000);
  const columns = names.map((_, index) => rows.map((row) => Number(row.cells[index + 1].textContent)));
  return { names, times, columns };
}

function chart(holder, times, series) {
  const paths = uPlot.paths.stepped({ align: 1 });
  const axis = { stroke: colour("--dim"), grid: { stroke: colour("--rule"), width: 0.5 } };
  return new uPlot({
    width: Math.max(280, holder.clientWidth), height: 200, axes: [axis, { ...axis, size: 70 }],
    scales: { y: { range: (_, low, high) => [Math.min(low || 0, 0), Math.max(high || 0, 1)] } },
    series: [{}, ...series.map(([name], index) => ({
      label: name, paths, width: 1.5, stroke: colour(index ? "--two" : "--one"), points: { show: false },
    }))],
  }, [times, ...series.map(([, values]) => values)], holder);
}

function draw() {
  drawn.forEach((each) => each.destroy());
  drawn = [];
  const found = readTable();
  if (found === null) return;
  const holder = document.getElementById("charts");
  const [placed, confirmed, ...revenues] = found.names.map((name, index) => [name, found.columns[index]]);
  // A chart for each currency: their amounts have no common scale.
  drawn = [[placed, confirmed], ...revenues.map((each) => [each])].map((series) => chart(holder, found.times, series));
}

async function refresh() {
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("live");
    if (fresh === null) throw new Error("another page");
    const isOpen = live.querySelector("details")?.open;
    live.replaceChildren(...fresh.childNodes);
    const details = live.querySelector("details");
    if (details !== null) details.open = Boolean(isOpen);
    draw();
    if (status.textContent) status.textContent = "";
  } catch {
    status.textContent = "The gateway does not answer; the figures are as of the last answer.";
  }
}

async function keepFresh() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, refreshMs));
    // A page that nobody looks at, or reads with the keyboard or a selection, stays as it is.
    if (!document.hidden && !live.contains(document.activeElement) && getSelection().isCollapsed) await refresh();
  }
}

draw();
keepFresh();
