// Keeps an order's page up to date while it may still change; without scripts the page reloads itself.
"use strict";

const PAUSE_MS = 700;

async function look() {
  const answer = await fetch(location.href, { cache: "no-store" });
  if (answer.ok) {
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const [before, after] = [document.getElementById("order"), page.getElementById("order")];
    if (after && before.innerHTML !== after.innerHTML) before.innerHTML = after.innerHTML;
    if (after && !after.hasAttribute("data-live")) return;
  } else if (answer.status === 409) {
    // The order was refused, and the page says why.
    location.reload();
    return;
  }
  setTimeout(again, PAUSE_MS);
}

function again() {
  look().catch(() => setTimeout(again, PAUSE_MS));
}

if (document.querySelector("#order[data-live]")) setTimeout(again, PAUSE_MS);
