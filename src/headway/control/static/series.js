// @ts-check
/** Puts uPlot in the place of the server's drawing of a time series, for values under the cursor and zoom; the drawing stays without it. */

const css = (/** @type {string} */ name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const milliseconds = (/** @type {number | null} */ v) => (v == null ? "–" : v < 1000 ? `${v.toPrecision(3)} ms` : `${(v / 1000).toPrecision(3)} s`);
const HEIGHT = 240;
// uPlot's table of time labels, with 24 hours: [least step in s, label, with the year, the month, the day, the hour, ...]
const CLOCK = [
  [86400, "{MM}-{DD}", "\n{YYYY}", null, null, null, null, null, 1],
  [60, "{HH}:{mm}", "\n{YYYY}-{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", "\n{YYYY}-{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1],
];

function draw(/** @type {HTMLElement} */ figure) {
  const source = figure.querySelector("script[type='application/json']");
  const drawing = figure.querySelector("svg");
  // @ts-expect-error uPlot is a global of its own script
  const uPlot = window.uPlot;
  if (!source || !drawing || !uPlot) return;
  const data = JSON.parse(source.textContent ?? "[]");
  const holder = document.createElement("div");
  drawing.replaceWith(holder);
  const axis = { stroke: css("--g5"), grid: { stroke: css("--g2"), width: 1 }, ticks: { stroke: css("--g3"), width: 1 }, font: `11px ${css("--font")}` };
  const line = (/** @type {string} */ label, /** @type {string} */ colour, /** @type {number[]} */ dash) => ({
    label,
    stroke: css(colour),
    width: 1.6,
    dash,
    points: { size: 4 },
    value: (/** @type {unknown} */ _, /** @type {number | null} */ v) => milliseconds(v),
  });
  const options = {
    width: figure.clientWidth,
    height: HEIGHT,
    tzDate: (/** @type {number} */ s) => uPlot.tzDate(new Date(s * 1000), "Etc/UTC"),
    scales: { y: { distr: 3, log: 10 } },
    axes: [{ ...axis, values: CLOCK }, { ...axis, size: 60, values: (/** @type {unknown} */ _, /** @type {number[]} */ ticks) => ticks.map((t) => (t == null ? "" : milliseconds(t))) }],
    series: [{ label: "UTC", value: "{YYYY}-{MM}-{DD} {HH}:{mm}" }, line("p50", "--accent", []), line("p99", "--g5", [5, 3])],
    cursor: { drag: { x: true, y: false } },
  };
  const plot = new uPlot(options, data, holder);
  new ResizeObserver(() => plot.setSize({ width: figure.clientWidth, height: HEIGHT })).observe(figure);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => location.reload());
}

for (const figure of document.querySelectorAll("figure.series")) draw(/** @type {HTMLElement} */ (figure));
