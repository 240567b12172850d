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

/** Lines by class, a dotted objective for each, and a mark on the axis where a giant prompt was admitted. */
function classes(/** @type {{ x: number[], lines: { label: string, tone: number, goal: number | null, y: (number | null)[] }[], marks: number[] }} */ source, /** @type {Function} */ line) {
  const tone = (/** @type {number} */ i) => `--class-${i}`;
  /** A value between two gaps is no line: it shows as a point. */
  const lone = (/** @type {any} */ plot, /** @type {number} */ i) =>
    plot.data[i].flatMap((/** @type {number | null} */ v, /** @type {number} */ k) => (v != null && plot.data[i][k - 1] == null && plot.data[i][k + 1] == null ? [k] : []));
  const goals = source.lines.filter((each) => each.goal);
  return {
    data: [source.x, ...source.lines.map((each) => each.y), ...goals.map((each) => source.x.map(() => each.goal))],
    series: [
      ...source.lines.map((each) => ({ ...line(`${each.label} p99`, tone(each.tone), []), points: { show: true, size: 5, fill: css(tone(each.tone)), filter: lone } })),
      ...goals.map((each) => ({ ...line(`${each.label} objective`, tone(each.tone), [2, 4]), class: "goal", width: 1, points: { show: false } })),
    ],
    hooks: {
      draw: [
        (/** @type {any} */ plot) => {
          const { ctx, bbox } = plot;
          ctx.save();
          ctx.fillStyle = ctx.strokeStyle = css("--g6");
          for (const at of source.marks) {
            const x = plot.valToPos(at, "x", true);
            if (x < bbox.left || x > bbox.left + bbox.width) continue;
            const size = 5 * devicePixelRatio;
            const base = bbox.top + bbox.height;
            ctx.beginPath();
            ctx.moveTo(x, base - 1.6 * size);
            ctx.lineTo(x + size, base);
            ctx.lineTo(x - size, base);
            ctx.fill();
            ctx.globalAlpha = 0.25;
            ctx.beginPath();
            ctx.moveTo(x, bbox.top);
            ctx.lineTo(x, base);
            ctx.stroke();
            ctx.globalAlpha = 1;
          }
          ctx.restore();
        },
      ],
    },
  };
}

/** The next of 1, 2, 5, 10, ... */
function round(/** @type {number} */ top) {
  const ten = 10 ** Math.floor(Math.log10(Math.max(1, top)));
  return ([1, 2, 5, 10].find((each) => each * ten >= top) ?? 10) * ten;
}

/** Tokens a second as bars from zero, on the same time axis as the lines above. */
function tokens(/** @type {{ x: number[], tokens: number[] }} */ source, /** @type {any} */ uPlot) {
  const value = (/** @type {unknown} */ _, /** @type {number | null} */ v) => (v == null ? "–" : v.toFixed(0));
  const bars = uPlot.paths.bars({ size: [0.8, 40], align: 0 });
  return {
    data: [source.x, source.tokens],
    series: [{ label: "tokens a second", fill: css("--g4"), stroke: css("--g4"), width: 0, paths: bars, points: { show: false }, value }],
    hooks: {},
    height: 110,
    scales: { y: { range: (/** @type {unknown} */ _, /** @type {number} */ __, /** @type {number} */ top) => [0, round(top)] } },
    y: { size: 60, splits: (/** @type {any} */ plot) => [0, plot.scales.y.max / 2, plot.scales.y.max], values: (/** @type {unknown} */ _, /** @type {number[]} */ ticks) => ticks.map((t) => (t >= 10000 ? `${t / 1000}k` : `${t}`)) },
  };
}

function draw(/** @type {HTMLElement} */ figure) {
  const source = (figure.dataset.from ? document.getElementById(figure.dataset.from) : figure)?.querySelector("script[type='application/json']");
  const drawing = figure.querySelector("svg");
  // @ts-expect-error uPlot is a global of its own script
  const uPlot = window.uPlot;
  if (!source || !drawing || !uPlot) return;
  const given = JSON.parse(source.textContent ?? "[]");
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
  /** @type {any} */
  const chart =
    figure.dataset.series === "classes" ? classes(given, line)
    : figure.dataset.series === "tokens" ? tokens(given, uPlot)
    : { data: given, series: [line("p50", "--accent", []), line("p99", "--g5", [5, 3])], hooks: {} };
  const options = {
    width: figure.clientWidth,
    height: chart.height ?? HEIGHT,
    tzDate: (/** @type {number} */ s) => uPlot.tzDate(new Date(s * 1000), "Etc/UTC"),
    scales: chart.scales ?? { y: { distr: 3, log: 10 } },
    axes: [{ ...axis, values: CLOCK }, { ...axis, ...(chart.y ?? { size: 60, values: (/** @type {unknown} */ _, /** @type {number[]} */ ticks) => ticks.map((t) => (t == null ? "" : milliseconds(t))) }) }],
    series: [{ label: "UTC", value: "{YYYY}-{MM}-{DD} {HH}:{mm}" }, ...chart.series],
    hooks: chart.hooks,
    cursor: { drag: { x: true, y: false }, sync: { key: "time" } },
  };
  const plot = new uPlot(options, chart.data, holder);
  new ResizeObserver(() => plot.setSize({ width: figure.clientWidth, height: options.height })).observe(figure);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => location.reload());
}

for (const figure of document.querySelectorAll("figure.series[data-series]")) draw(/** @type {HTMLElement} */ (figure));
