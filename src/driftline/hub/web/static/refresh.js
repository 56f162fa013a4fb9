// Keeps a page current: every few seconds it is fetched again, and what changed is put in place.
// Without this the page reads the same; it only has to be reloaded by hand.

const PERIOD_MS = 5000;
const PARTS = ["#content", "#as-of", "#banner"];

function busy() {
  const selection = document.getSelection();
  const reading = selection !== null && !selection.isCollapsed;
  const acting = document.activeElement?.closest("form") !== null && document.activeElement !== document.body;
  const typed = [...document.querySelectorAll("#content input")].some((one) => one.value !== one.defaultValue);
  return document.hidden || reading || acting || typed;
}

function opened(root) {
  return [...root.querySelectorAll("details")].map((one) => one.open);
}

async function refresh() {
  if (busy()) return;
  const reply = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!reply.ok || busy()) return;
  const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
  document.title = fresh.title;
  for (const part of PARTS) {
    const now = document.querySelector(part);
    const next = fresh.querySelector(part);
    if (!now || !next || now.innerHTML === next.innerHTML) continue;
    const open = opened(now);
    const scrolled = [...now.querySelectorAll(".wide, .chart")].map((one) => one.scrollLeft);
    now.replaceChildren(...next.childNodes);
    now.querySelectorAll("details").forEach((one, i) => { one.open = open[i] ?? one.open; });
    now.querySelectorAll(".wide, .chart").forEach((one, i) => { one.scrollLeft = scrolled[i] ?? 0; });
  }
  document.documentElement.dataset.refreshed = String(Date.now());
}

setInterval(() => { refresh().catch(() => {}); }, PERIOD_MS);
