// @ts-check
/**
 * The waterfall of one trace: a tree grid of which only the rows in view exist, beside a canvas on which only the rows in view are drawn.
 * Ten thousand spans cost as much to scroll as fifty. The tables under it say the same without a script.
 */

const ROW = 24;
const ROWS_SHOWN = 22;
const STRIP = 48;
const AXIS = 22;
const ERROR = 1;
const NOT_AWAITED = 2;
const MODEL = 4;
const TONES = ["--class-1", "--class-2", "--class-3", "--class-4", "--g6", "--g5", "--g4"];
const ZOOM_US_MIN = 20;

/** @typedef {{ total_us: number, left_out: number, hops: string[], names: string[], parent: number[], start: number[], took: number[], hop: number[], name: number[], flags: number[], path: number[] }} Columns */

const css = (/** @type {string} */ name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const count = (/** @type {number} */ n) => n.toLocaleString("en-US");

/** 12 µs, 8.4 ms, 340 ms, 1.24 s. */
function span(/** @type {number} */ us) {
  if (us < 1000) return `${Math.round(us)} µs`;
  const ms = us / 1000;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  return s < 9.995 ? `${s.toFixed(2)} s` : s < 119.5 ? `${s.toFixed(1)} s` : `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
}

function element(/** @type {string} */ tag, /** @type {string} */ className, /** @type {Record<string, string>} */ attributes = {}) {
  const made = document.createElement(tag);
  made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** What follows from the columns once: depth, end of each subtree, path by row, tone by hop. */
function prepared(/** @type {Columns} */ c) {
  const n = c.start.length;
  const depth = new Int32Array(n);
  const end = new Int32Array(n);
  const kids = new Int32Array(n);
  const owned = new Float64Array(n);
  const firstPath = new Int32Array(n).fill(-1);
  const nextPath = new Int32Array(c.path.length / 3).fill(-1);
  const byHop = new Float64Array(c.hops.length);
  for (let i = 0; i < n; i++) {
    end[i] = i + 1;
    if (c.parent[i] >= 0) {
      depth[i] = depth[c.parent[i]] + 1;
      kids[c.parent[i]]++;
    }
  }
  for (let i = n - 1; i > 0; i--) end[c.parent[i]] = Math.max(end[c.parent[i]], end[i]);
  for (let p = c.path.length / 3 - 1; p >= 0; p--) {
    const row = c.path[3 * p];
    owned[row] += c.path[3 * p + 2];
    byHop[c.hop[row]] += c.path[3 * p + 2];
    nextPath[p] = firstPath[row];
    firstPath[row] = p;
  }
  const models = new Set();
  for (let i = 0; i < n; i++) if (c.flags[i] & MODEL) models.add(c.hop[i]);
  /** @type {string[]} */
  const tone = new Array(c.hops.length).fill("--g4");
  [...byHop.keys()].sort((a, b) => byHop[b] - byHop[a]).filter((hop) => !models.has(hop)).forEach((hop, place) => (tone[hop] = TONES[Math.min(place, TONES.length - 1)]));
  for (const hop of models) tone[hop] = "--accent";
  const lower = { hops: c.hops.map((text) => text.toLowerCase()), names: c.names.map((text) => text.toLowerCase()) };
  return { n, depth, end, kids, owned, firstPath, nextPath, tone, lower };
}

class Waterfall {
  constructor(/** @type {HTMLElement} */ holder, /** @type {Columns} */ columns) {
    this.c = columns;
    this.p = prepared(columns);
    this.folded = new Uint8Array(this.p.n);
    this.rows = new Int32Array(this.p.n);
    this.shown = 0;
    this.selected = 0;
    this.from = 0;
    this.to = columns.total_us;
    this.find = "";
    this.onlyPath = false;
    this.asked = 0;
    this.build(holder);
    this.colours();
    this.choose();
    this.drawStrip();
    this.draw();
    this.tell();
  }

  build(/** @type {HTMLElement} */ holder) {
    holder.replaceChildren();
    this.strip = /** @type {HTMLCanvasElement} */ (element("canvas", "wf-strip", { "aria-hidden": "true" }));
    this.axis = /** @type {HTMLCanvasElement} */ (element("canvas", "wf-axis", { "aria-hidden": "true" }));
    this.head = element("div", "wf-head", { "aria-hidden": "true" });
    for (const text of ["Span", "Hop", "Took", "Waited for"]) this.head.append(Object.assign(element("span", text === "Span" || text === "Hop" ? "" : "num"), { textContent: text }));
    const top = element("div", "wf-top");
    top.append(this.head, this.axis);
    this.scroller = element("div", "wf-scroll", { tabindex: "0", role: "treegrid", "aria-label": "Spans of the trace, as a tree", "aria-colcount": "4", "aria-readonly": "true" });
    this.room = element("div", "wf-room");
    this.view = element("div", "wf-view");
    this.list = element("div", "wf-list");
    this.canvas = /** @type {HTMLCanvasElement} */ (element("canvas", "wf-canvas", { "aria-hidden": "true" }));
    this.detail = element("p", "wf-detail", { role: "status" });
    this.view.append(this.list, this.canvas);
    this.room.append(this.view);
    this.scroller.append(this.room);
    holder.append(this.strip, top, this.scroller, this.detail);
    this.height = Math.min(ROWS_SHOWN, Math.max(4, this.p.n)) * ROW;
    this.scroller.style.height = `${this.height}px`;
    this.view.style.height = `${this.height}px`;
    /** @type {{ row: HTMLElement, name: HTMLElement, fold: HTMLElement, text: HTMLElement, cells: HTMLElement[], at: number }[]} */
    this.pool = Array.from({ length: Math.ceil(this.height / ROW) + 1 }, (_, i) => this.line(i));
    this.listen();
  }

  line(/** @type {number} */ i) {
    const row = element("div", "wf-row", { role: "row", id: `wf-row-${i}` });
    const name = element("span", "wf-name", { role: "gridcell" });
    const fold = element("span", "wf-fold", { "aria-hidden": "true" });
    const text = element("span", "wf-text");
    name.append(fold, text);
    const cells = ["wf-hop", "num", "num"].map((each) => element("span", each, { role: "gridcell" }));
    row.append(name, ...cells);
    /** @type {HTMLElement} */ (this.list).append(row);
    return { row, name, fold, text, cells, at: -1 };
  }

  listen() {
    const { scroller, strip, canvas } = /** @type {Required<Waterfall>} */ (/** @type {unknown} */ (this));
    scroller.addEventListener("scroll", () => this.soon(), { passive: true });
    scroller.addEventListener("keydown", (event) => this.key(event));
    scroller.addEventListener("click", (event) => this.click(event));
    scroller.addEventListener("dblclick", () => this.fit(this.selected));
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 0.7 : 1 / 0.7, this.from + (event.offsetX / canvas.clientWidth) * (this.to - this.from));
    });
    let begun = -1;
    const at = (/** @type {PointerEvent} */ event) => Math.min(1, Math.max(0, event.offsetX / strip.clientWidth)) * this.c.total_us;
    strip.addEventListener("pointerdown", (event) => {
      begun = at(event);
      strip.setPointerCapture(event.pointerId);
    });
    strip.addEventListener("pointermove", (event) => {
      if (begun >= 0 && Math.abs(at(event) - begun) > this.c.total_us / 200) this.range(Math.min(begun, at(event)), Math.max(begun, at(event)));
    });
    strip.addEventListener("pointerup", () => (begun = -1));
    strip.addEventListener("dblclick", () => this.range(0, this.c.total_us));
    new ResizeObserver(() => {
      this.drawStrip();
      this.soon();
    }).observe(scroller);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.colours();
      this.drawStrip();
      this.soon();
    });
  }

  colours() {
    const known = new Map();
    const of = (/** @type {string} */ name) => known.get(name) ?? (known.set(name, css(name)), known.get(name));
    this.paint = { hop: this.p.tone.map(of), text: of("--g6"), quiet: of("--g5"), grid: of("--g2"), line: of("--g3"), ground: of("--g0"), chosen: of("--g1"), bad: of("--bad"), accent: of("--accent"), font: `11px ${css("--font")}` };
  }

  /** Which rows there are now: folded subtrees are skipped; a filter keeps what it finds and all above it. */
  choose() {
    const { c, p } = this;
    const wanted = this.find || this.onlyPath ? this.wanted() : null;
    let n = 0;
    for (let i = 0; i < p.n; ) {
      if (wanted && !wanted[i]) {
        i = p.end[i];
        continue;
      }
      this.rows[n++] = i;
      i = this.folded[i] && !wanted ? p.end[i] : i + 1;
    }
    this.shown = n;
    /** @type {HTMLElement} */ (this.room).style.height = `${Math.max(n * ROW, this.height ?? 0)}px`;
    this.scroller?.setAttribute("aria-rowcount", String(n));
    if (n && this.position(this.selected) < 0) {
      let at = this.selected;
      while (at > 0 && this.position(at) < 0) at = c.parent[at];
      this.selected = this.position(at) < 0 ? this.rows[0] : at;
    }
  }

  /** 1 for each row that the filter keeps or that lies above one. */
  wanted() {
    const { c, p } = this;
    const hops = p.lower.hops.map((text) => text.includes(this.find));
    const names = p.lower.names.map((text) => text.includes(this.find));
    const kept = new Uint8Array(p.n);
    for (let i = p.n - 1; i >= 0; i--) {
      const found = (!this.find || hops[c.hop[i]] || names[c.name[i]]) && (!this.onlyPath || p.owned[i] > 0);
      if (found || kept[i]) {
        kept[i] = 1;
        if (c.parent[i] >= 0) kept[c.parent[i]] = 1;
      }
    }
    return kept;
  }

  /** The place of a row among those there are; -1 for one that is folded away. Rows rise, so it is halved down to. */
  position(/** @type {number} */ row) {
    let low = 0;
    let high = this.shown - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle] === row) return middle;
      if (this.rows[middle] < row) low = middle + 1;
      else high = middle - 1;
    }
    return -1;
  }

  soon() {
    if (!this.asked) this.asked = requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.asked = 0;
    const scroller = /** @type {HTMLElement} */ (this.scroller);
    const first = Math.max(0, Math.floor(scroller.scrollTop / ROW));
    const shift = -(scroller.scrollTop - first * ROW);
    /** @type {HTMLElement} */ (this.list).style.transform = `translateY(${shift}px)`;
    let active = "";
    for (const [i, line] of (this.pool ?? []).entries()) {
      const place = first + i;
      line.row.hidden = place >= this.shown;
      if (place >= this.shown) continue;
      const row = this.rows[place];
      this.fill(line, row, place);
      if (row === this.selected) active = line.row.id;
    }
    if (active) scroller.setAttribute("aria-activedescendant", active);
    else scroller.removeAttribute("aria-activedescendant");
    this.drawBars(first, shift);
    this.drawAxis();
  }

  fill(/** @type {{ row: HTMLElement, name: HTMLElement, fold: HTMLElement, text: HTMLElement, cells: HTMLElement[], at: number }} */ line, /** @type {number} */ row, /** @type {number} */ place) {
    const { c, p } = this;
    const chosen = row === this.selected;
    if (line.row.getAttribute("aria-selected") !== String(chosen)) line.row.setAttribute("aria-selected", String(chosen));
    line.row.setAttribute("aria-rowindex", String(place + 1));
    if (p.kids[row]) line.row.setAttribute("aria-expanded", String(!this.folded[row]));
    else line.row.removeAttribute("aria-expanded");
    line.fold.textContent = p.kids[row] ? (this.folded[row] ? "▸" : "▾") : "";
    if (line.at === row) return;
    line.at = row;
    line.row.setAttribute("aria-level", String(p.depth[row] + 1));
    line.name.style.paddingLeft = `${Math.min(p.depth[row], 14) * 10}px`;
    line.text.textContent = c.names[c.name[row]] || c.hops[c.hop[row]];
    line.text.title = c.names[c.name[row]];
    line.row.classList.toggle("failed", (c.flags[row] & ERROR) !== 0);
    line.cells[0].textContent = c.hops[c.hop[row]];
    line.cells[0].title = c.hops[c.hop[row]];
    line.cells[1].textContent = span(c.took[row]);
    line.cells[2].textContent = p.owned[row] ? span(p.owned[row]) : "–";
  }

  /** A canvas of the size that it has on the page, cleared, in CSS pixels. */
  context(/** @type {HTMLCanvasElement} */ canvas, /** @type {number} */ height) {
    const width = canvas.clientWidth;
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    return { pen, width };
  }

  drawBars(/** @type {number} */ first, /** @type {number} */ shift) {
    const { c, p } = this;
    const paint = /** @type {NonNullable<typeof this.paint>} */ (this.paint);
    const { pen, width } = this.context(/** @type {HTMLCanvasElement} */ (this.canvas), this.height ?? 0);
    const scale = width / (this.to - this.from);
    pen.font = paint.font;
    pen.textBaseline = "middle";
    pen.fillStyle = paint.grid;
    for (const tick of this.ticks(width)) pen.fillRect(Math.round((tick - this.from) * scale), 0, 1, this.height ?? 0);
    const last = Math.min(this.shown, first + (this.pool ?? []).length);
    for (let place = first; place < last; place++) {
      const row = this.rows[place];
      const y = (place - first) * ROW + shift;
      if (row === this.selected) {
        pen.fillStyle = paint.chosen;
        pen.fillRect(0, y, width, ROW);
      }
      const x = (c.start[row] - this.from) * scale;
      const long = Math.max(1.5, c.took[row] * scale);
      if (x > width || x + long < 0) {
        pen.fillStyle = paint.quiet;
        pen.fillText(x > width ? "→" : "←", x > width ? width - 12 : 2, y + ROW / 2);
        continue;
      }
      const left = Math.max(-2, x);
      const right = Math.min(width + 2, x + long);
      pen.globalAlpha = 0.3;
      pen.fillStyle = paint.hop[c.hop[row]];
      if (c.flags[row] & NOT_AWAITED) {
        pen.globalAlpha = 1;
        pen.strokeStyle = paint.hop[c.hop[row]];
        pen.setLineDash([3, 2]);
        pen.strokeRect(left + 0.5, y + 6.5, Math.max(1, right - left - 1), ROW - 13);
        pen.setLineDash([]);
      } else pen.fillRect(left, y + 6, right - left, ROW - 12);
      pen.globalAlpha = 1;
      for (let part = p.firstPath[row]; part >= 0; part = p.nextPath[part]) {
        const begin = (c.path[3 * part + 1] - this.from) * scale;
        const length = Math.max(1, c.path[3 * part + 2] * scale);
        if (begin > width || begin + length < 0) continue;
        pen.fillRect(Math.max(-2, begin), y + 6, Math.min(width + 2, begin + length) - Math.max(-2, begin), ROW - 12);
      }
      this.label(pen, row, left, right, y, width);
    }
  }

  label(/** @type {CanvasRenderingContext2D} */ pen, /** @type {number} */ row, /** @type {number} */ left, /** @type {number} */ right, /** @type {number} */ y, /** @type {number} */ width) {
    const paint = /** @type {NonNullable<typeof this.paint>} */ (this.paint);
    const failed = (this.c.flags[row] & ERROR) !== 0;
    const text = (failed ? "× " : "") + span(this.c.took[row]);
    const room = pen.measureText(text).width + 6;
    pen.fillStyle = failed ? paint.bad : paint.quiet;
    if (right + room <= width) pen.fillText(text, right + 4, y + ROW / 2 + 0.5);
    else if (left - room >= 0) pen.fillText(text, left - room + 2, y + ROW / 2 + 0.5);
  }

  /** Of 1, 2, 5, 10, ... microseconds, about one for each 90 pixels. */
  ticks(/** @type {number} */ width) {
    const wanted = (this.to - this.from) / Math.max(2, width / 90);
    const ten = 10 ** Math.floor(Math.log10(Math.max(1, wanted)));
    const step = ([1, 2, 5, 10].find((each) => each * ten >= wanted) ?? 10) * ten;
    const found = [];
    for (let at = Math.ceil(this.from / step) * step; at <= this.to; at += step) found.push(at);
    return found;
  }

  drawAxis() {
    const paint = /** @type {NonNullable<typeof this.paint>} */ (this.paint);
    const { pen, width } = this.context(/** @type {HTMLCanvasElement} */ (this.axis), AXIS);
    const scale = width / (this.to - this.from);
    pen.font = paint.font;
    pen.textBaseline = "middle";
    for (const tick of this.ticks(width)) {
      const x = (tick - this.from) * scale;
      const text = tick === 0 ? "0" : span(tick);
      const long = pen.measureText(text).width;
      if (x + 4 + long > width) continue;
      pen.fillStyle = paint.line;
      pen.fillRect(Math.round(x), AXIS - 6, 1, 6);
      pen.fillStyle = paint.quiet;
      pen.fillText(text, x + 4, AXIS / 2);
    }
  }

  /** The whole trace small: every span a line at its depth, the path below in full colour, what is looked at between two edges. */
  drawStrip() {
    const { c, p } = this;
    const paint = /** @type {NonNullable<typeof this.paint>} */ (this.paint);
    const { pen, width } = this.context(/** @type {HTMLCanvasElement} */ (this.strip), STRIP);
    const scale = width / c.total_us;
    let deepest = 1;
    for (let i = 0; i < p.n; i++) if (p.depth[i] > deepest) deepest = p.depth[i];
    const lane = (STRIP - 12) / (deepest + 1);
    pen.globalAlpha = 0.45;
    for (let i = 0; i < p.n; i++) {
      pen.fillStyle = paint.hop[c.hop[i]];
      pen.fillRect(c.start[i] * scale, p.depth[i] * lane, Math.max(1, c.took[i] * scale), Math.max(1, lane - 0.5));
    }
    pen.globalAlpha = 1;
    for (let part = 0; part < c.path.length; part += 3) {
      pen.fillStyle = paint.hop[c.hop[c.path[part]]];
      pen.fillRect(c.path[part + 1] * scale, STRIP - 9, Math.max(1, c.path[part + 2] * scale), 7);
    }
    if (this.from > 0 || this.to < c.total_us) {
      pen.fillStyle = paint.ground;
      pen.globalAlpha = 0.7;
      pen.fillRect(0, 0, this.from * scale, STRIP);
      pen.fillRect(this.to * scale, 0, width, STRIP);
      pen.globalAlpha = 1;
      pen.fillStyle = paint.accent;
      for (const edge of [this.from, this.to]) pen.fillRect(Math.min(width - 2, Math.max(0, edge * scale - 1)), 0, 2, STRIP);
    }
  }

  // --- what one does

  range(/** @type {number} */ from, /** @type {number} */ to) {
    const total = this.c.total_us;
    const length = Math.min(total, Math.max(ZOOM_US_MIN, to - from));
    this.from = Math.min(Math.max(0, from), total - length);
    this.to = this.from + length;
    this.drawStrip();
    this.soon();
  }

  zoom(/** @type {number} */ factor, /** @type {number} */ around) {
    this.range(around - (around - this.from) * factor, around + (this.to - around) * factor);
  }

  fit(/** @type {number} */ row) {
    const extra = Math.max(ZOOM_US_MIN, this.c.took[row] * 0.05);
    this.range(this.c.start[row] - extra, this.c.start[row] + this.c.took[row] + extra);
  }

  select(/** @type {number} */ row) {
    this.selected = row;
    const scroller = /** @type {HTMLElement} */ (this.scroller);
    const top = this.position(row) * ROW;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top + ROW > scroller.scrollTop + (this.height ?? 0)) scroller.scrollTop = top + ROW - (this.height ?? 0);
    this.tell();
    this.soon();
  }

  fold(/** @type {number} */ row, /** @type {boolean} */ shut) {
    if (!this.p.kids[row] || Boolean(this.folded[row]) === shut) return;
    this.folded[row] = shut ? 1 : 0;
    this.choose();
    this.tell();
    this.soon();
  }

  tell() {
    const { c, p } = this;
    const row = this.selected;
    const words = [c.hops[c.hop[row]], c.names[c.name[row]], `from ${span(c.start[row])} for ${span(c.took[row])}`];
    words.push(p.owned[row] ? `waited for ${span(p.owned[row])} of it` : "on no path");
    const below = p.end[row] - row - 1;
    if (below) words.push(`${count(below)} ${below === 1 ? "span" : "spans"} below`);
    if (c.flags[row] & NOT_AWAITED) words.push("nobody waits for it");
    if (c.flags[row] & ERROR) words.push("ended in an error");
    const found = this.find || this.onlyPath ? `${count(this.shown)} of ${count(p.n)} spans shown. ` : "";
    /** @type {HTMLElement} */ (this.detail).textContent = found + words.filter(Boolean).join(" · ");
  }

  filter(/** @type {string} */ find, /** @type {boolean} */ onlyPath) {
    this.find = find.trim().toLowerCase();
    this.onlyPath = onlyPath;
    this.choose();
    if (this.shown) this.select(this.selected);
    else /** @type {HTMLElement} */ (this.detail).textContent = "No span has it in its hop or name.";
    this.soon();
  }

  click(/** @type {MouseEvent} */ event) {
    const scroller = /** @type {HTMLElement} */ (this.scroller);
    const y = event.clientY - scroller.getBoundingClientRect().top + scroller.scrollTop;
    const place = Math.floor(y / ROW);
    if (place >= this.shown) return;
    const row = this.rows[place];
    if (event.target instanceof Element && event.target.classList.contains("wf-fold")) this.fold(row, !this.folded[row]);
    this.select(row);
  }

  key(/** @type {KeyboardEvent} */ event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.position(this.selected);
    const page = ROWS_SHOWN - 2;
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -this.shown, End: this.shown, j: 1, k: -1 }[event.key];
    const middle = this.c.start[this.selected] + this.c.took[this.selected] / 2;
    if (!this.shown) return;
    if (step !== undefined) this.select(this.rows[Math.min(this.shown - 1, Math.max(0, at + step))]);
    else if (event.key === "ArrowLeft") this.out();
    else if (event.key === "ArrowRight") this.in();
    else if (event.key === "+" || event.key === "=") this.zoom(0.5, middle);
    else if (event.key === "-") this.zoom(2, middle);
    else if (event.key === "0") this.range(0, this.c.total_us);
    else if (event.key === "Enter") this.fit(this.selected);
    else if (event.key === "n") this.nextError();
    else if (event.key === "p") document.getElementById("wf-path")?.click();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  out() {
    if (this.p.kids[this.selected] && !this.folded[this.selected]) this.fold(this.selected, true);
    else if (this.c.parent[this.selected] >= 0) this.select(this.c.parent[this.selected]);
  }

  in() {
    if (this.folded[this.selected]) this.fold(this.selected, false);
    else if (this.p.kids[this.selected]) this.select(this.rows[Math.min(this.shown - 1, this.position(this.selected) + 1)]);
  }

  nextError() {
    const at = this.position(this.selected);
    for (let i = 1; i <= this.shown; i++) {
      const row = this.rows[(at + i) % this.shown];
      if (this.c.flags[row] & ERROR) {
        this.select(row);
        return;
      }
    }
    /** @type {HTMLElement} */ (this.detail).textContent = "No span ended in an error.";
  }
}

async function start(/** @type {HTMLElement} */ holder) {
  const state = document.getElementById("wf-state");
  if (state) state.textContent = "Reading the spans …";
  performance.mark("waterfall-asked");
  const answer = await fetch(holder.dataset.spans ?? "", { headers: { accept: "application/json" } }).catch(() => null);
  if (!answer?.ok) {
    if (state) state.textContent = "The spans cannot be read now. Reload the page to try again; the tables below are whole.";
    return;
  }
  const columns = /** @type {Columns} */ (await answer.json());
  performance.mark("waterfall-read");
  const fall = new Waterfall(holder, columns);
  requestAnimationFrame(() => performance.measure("waterfall-painted", "waterfall-read"));
  const tools = document.getElementById("wf-tools");
  const help = document.getElementById("wf-help");
  if (tools) tools.hidden = false;
  if (help) {
    help.hidden = false;
    if (columns.left_out) help.append(` The ${count(columns.left_out)} shortest spans are left out.`);
  }
  const find = /** @type {HTMLInputElement | null} */ (document.getElementById("wf-find"));
  const path = document.getElementById("wf-path");
  const chosen = () => path?.getAttribute("aria-pressed") === "true";
  find?.addEventListener("input", () => fall.filter(find.value, chosen()));
  path?.addEventListener("click", () => {
    path.setAttribute("aria-pressed", String(!chosen()));
    fall.filter(find?.value ?? "", chosen());
  });
  document.getElementById("wf-whole")?.addEventListener("click", () => fall.range(0, columns.total_us));
}

const holder = document.getElementById("waterfall");
if (holder) start(holder);
