// @ts-check
/** The board's own script: ages that tick, copy buttons, the live table, a few keys. Every page works without it. */

const SECOND = 1000;
const span = (/** @type {number} */ s) =>
  s < 90 ? `${Math.max(0, Math.floor(s))} s` : s < 5400 ? `${Math.round(s / 60)} min` : s < 129600 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;

/** Ages count from the instants that the server wrote. */
function tick() {
  const now = Date.now();
  for (const node of document.querySelectorAll("time[data-ms]")) {
    const s = (now - Number(/** @type {HTMLElement} */ (node).dataset.ms)) / SECOND;
    const text = s < -0.5 ? `in ${span(-s)}` : `${span(s)} ago`;
    if (node.textContent !== text) node.textContent = text;
  }
  for (const node of document.querySelectorAll("[data-since]")) {
    node.textContent = span((now - Number(/** @type {HTMLElement} */ (node).dataset.since)) / SECOND);
  }
}
setInterval(tick, SECOND);

async function copy(/** @type {HTMLElement} */ button) {
  const text = button.dataset.copy ?? "";
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea"); // no clipboard API over plain http off loopback
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  const shown = button.innerHTML;
  button.textContent = "Copied";
  setTimeout(() => (button.innerHTML = shown), 1200);
}

document.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-copy]") : null;
  if (button instanceof HTMLElement) copy(button);
});
document.addEventListener("change", (event) => {
  if (event.target instanceof HTMLSelectElement && "autosubmit" in event.target.dataset) event.target.form?.requestSubmit();
});
document.addEventListener("submit", (event) => {
  const form = /** @type {HTMLFormElement} */ (event.target);
  if (form.dataset.confirm && !window.confirm(form.dataset.confirm)) event.preventDefault();
  if (form.method === "get") {
    for (const field of form.querySelectorAll("input, select")) {
      const named = /** @type {HTMLInputElement} */ (field);
      if (!named.value) named.disabled = true; // keeps empty filters out of the address
    }
  }
});
window.addEventListener("pageshow", () => {
  for (const field of document.querySelectorAll("form [disabled]")) /** @type {HTMLInputElement} */ (field).disabled = false;
});

// --- the live table --------------------------------------------------------------------------------------------------------

const pause = /** @type {HTMLButtonElement | null} */ (document.getElementById("pause"));
const followState = document.getElementById("follow-state");
let paused = false;

function follow(/** @type {string} */ tone, /** @type {string} */ words) {
  if (!followState || paused) return;
  followState.className = `state ${tone}`;
  followState.textContent = words;
}
document.addEventListener("htmx:sseOpen", () => {
  follow("live", "following");
  if (pause) pause.hidden = false;
});
document.addEventListener("htmx:sseError", () => follow("warn", "connection lost, trying again"));
document.addEventListener("htmx:sseBeforeMessage", (event) => {
  if (paused) event.preventDefault();
});
document.addEventListener("htmx:beforeRequest", (event) => {
  if (paused && event.target instanceof Element && event.target.closest("#list")) event.preventDefault();
});
document.addEventListener("htmx:sseMessage", () => {
  const ended = /** @type {HTMLTableSectionElement | null} */ (document.getElementById("ended"));
  if (!ended) return;
  const seen = new Set();
  for (const row of [...ended.rows]) {
    // The call may stand among those in flight, or further down from before its gateway came back.
    if (row.classList.contains("fresh") || "gone" in row.dataset) document.querySelector(`#open [id="${CSS.escape(row.id)}"]`)?.remove();
    if ("gone" in row.dataset || seen.has(row.id)) row.remove();
    seen.add(row.id);
  }
  const max = Number(ended.dataset.rowsMax ?? 0);
  while (max && ended.rows.length > max) ended.deleteRow(-1);
  document.getElementById("empty")?.remove();
});
pause?.addEventListener("click", () => {
  if (paused) {
    location.reload();
    return;
  }
  follow("unknown", "paused");
  paused = true;
  pause.textContent = "Go on";
  pause.setAttribute("aria-pressed", "true");
});

// --- keys: g h, g c, g l, g t, g a, g s to pages, / to the filter, j k to rows, Enter to open ------------------------------------------------

let went = false;
let row = -1;

function select(/** @type {number} */ step) {
  const rows = [...document.querySelectorAll("table.calls tbody tr")];
  if (!rows.length) return;
  rows[row]?.classList.remove("selected");
  row = Math.min(rows.length - 1, Math.max(0, row + step));
  rows[row].classList.add("selected");
  rows[row].scrollIntoView({ block: "nearest" });
  /** @type {HTMLElement | null} */ (rows[row].querySelector(".c-id a"))?.focus({ preventScroll: true });
}

document.addEventListener("keydown", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, select, textarea")) return;
  const pages = { h: "/", c: "/calls", l: "/slow", t: "/time", a: "/admission", s: "/settings" };
  if (went && event.key in pages) location.assign(pages[/** @type {keyof typeof pages} */ (event.key)]);
  went = event.key === "g";
  if (event.key === "j") select(1);
  if (event.key === "k") select(-1);
  if (event.key === "/") {
    const field = /** @type {HTMLElement | null} */ (document.querySelector("[data-slash]"));
    if (field) {
      field.focus();
      event.preventDefault();
    }
  }
});
