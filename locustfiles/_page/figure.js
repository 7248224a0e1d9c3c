// One chart: its plot, its caption, and the same in words for who cannot see it.
import { clock, withUnit } from "./words.js";
import { drawHeat, drawMarks } from "./marks.js";

const { uPlot } = window;
const HEIGHT = 210;
const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3]]; // a line is told by its dashes, too
const BORDERS = ["solid", "dashed", "dotted", "double"]; // the same in the legend
const FONT = "12px system-ui, sans-serif";

const made = (kind, parent, properties = {}) => parent.appendChild(Object.assign(document.createElement(kind), properties));
const latest = (values) => values.findLast((value) => value !== null);
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Figure {
  constructor(spec, grid) {
    this.spec = spec;
    this.limits = [];
    this.markers = [];
    this.data = null;
    this.empty = true;
    this.figure = made("figure", grid, { className: "panel" });
    const caption = made("figcaption", this.figure);
    made("strong", caption, { textContent: spec.unit ? `${spec.title} (${spec.unit})` : spec.title });
    if (spec.hint) made("span", caption, { className: "soft", textContent: spec.hint });
    this.nothing = made("p", this.figure, { className: "soft", textContent: "Nothing yet.", hidden: true });
    this.place = made("div", this.figure, { className: "plot" });
    this.place.setAttribute("role", "img");
    this.details = made("details", this.figure);
    made("summary", this.details, { textContent: `${spec.title}: the numbers` });
    this.body = made("tbody", made("table", this.details));
    this.lines = [];
    this.details.addEventListener("toggle", () => this.numbers());
    new ResizeObserver(() => this.resize()).observe(this.place);
  }

  // Takes data.json.
  show(data) {
    this.data = data;
    this.width_s = data.width_s;
    this.heat = this.spec.heat ? data.heat[this.spec.heat] : null;
    const lines = this.spec.errors
      ? Object.keys(data.errors).map((outcome) => ({ label: outcome, values: data.errors[outcome] }))
      : this.spec.lines.map(({ column, label }) => ({ label, values: data.series[column] }));
    this.empty = !lines.some(({ values }) => values.some((value) => value !== null));
    this.place.hidden = this.empty;
    this.nothing.hidden = !this.empty;
    this.nothing.textContent = this.spec.errors ? "No errors." : "Nothing yet.";
    this.inWords(lines);
    if (this.empty) return;
    const names = lines.map(({ label }) => label).join();
    const columns = [data.unix_s, ...lines.map(({ values }) => values)];
    if (!this.plot || this.names !== names) {
      this.names = names;
      this.build(lines, columns);
    } else {
      this.plot.setData(columns);
    }
  }

  inWords(lines) {
    const said = lines.map(({ label, values }) => `${label} ${withUnit(latest(values), this.spec.unit)}`);
    this.place.setAttribute("aria-label", `${this.spec.title}, latest: ${said.join(", ")}`);
    this.lines = lines;
    this.numbers();
  }

  // Fills the table below the chart, where somebody has opened it.
  numbers() {
    this.body.replaceChildren();
    if (!this.details.open) return;
    const head = made("tr", this.body);
    for (const text of ["", "latest", "least", "greatest"]) made("th", head, { textContent: text, scope: "col" });
    for (const { label, values } of this.lines) {
      const known = values.filter((value) => value !== null);
      const row = made("tr", this.body);
      made("th", row, { textContent: label, scope: "row" });
      const least = known.length ? Math.min(...known) : null;
      const greatest = known.length ? Math.max(...known) : null;
      for (const value of [latest(values), least, greatest]) {
        made("td", row, { textContent: withUnit(value, this.spec.unit) });
      }
    }
  }

  rebuild() {
    this.plot?.destroy();
    this.plot = null;
    if (this.data) this.show(this.data);
  }

  redraw() {
    this.plot?.redraw(false); // a limit that needs more height gets it with the next numbers
  }

  resize() {
    const width = Math.floor(this.place.clientWidth);
    if (this.plot && width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }

  top(greatest) {
    const near = this.limits.map((one) => one.limit).filter((limit) => limit <= 4 * (greatest || 1));
    return 1.08 * Math.max(greatest ?? 0, ...near) || 1;
  }

  build(lines, columns) {
    this.plot?.destroy();
    const axis = { stroke: ink("--soft"), font: FONT, grid: { stroke: ink("--line"), width: 1 }, ticks: { stroke: ink("--line"), width: 1 } };
    const options = {
      width: Math.max(200, Math.floor(this.place.clientWidth)),
      height: HEIGHT,
      legend: { markers: { dash: (_, place) => BORDERS[(place - 1) % BORDERS.length] } },
      cursor: { sync: { key: "tokenswarm" }, drag: { x: true, y: false, dist: 8 } },
      scales: {
        x: { time: true, range: (_, from, to) => (from === null ? [0, 1] : [from, Math.max(to, from + this.width_s)]) },
        y: this.heat
          ? { distr: 3, range: () => [this.heat.edges_ms[0] ?? 1, this.heat.edges_ms.at(-1) ?? 10] }
          : { range: (_, from, to) => [0, this.top(to)] },
      },
      axes: [
        { ...axis, space: 70, size: 34, values: (_, splits, __, ___, step) => splits.map((at) => clock(at, step < 60)) },
        { ...axis, size: 58, values: (_, splits) => splits.map((at) => withUnit(at, "")), ...(this.heat ? logarithmic : {}) },
      ],
      series: [
        { label: "at", value: (plot, at) => clock(at ?? plot.data[0].at(-1) ?? 0, true) },
        ...lines.map(({ label }, place) => ({
          label,
          stroke: this.heat ? ink("--ink") : ink(`--line-${(place % 6) + 1}`),
          width: this.heat ? 1.25 : 2,
          dash: DASHES[place % DASHES.length],
          points: { show: (plot) => plot.data[0].length < 3 },
          // without a cursor the latest
          value: (plot, value, line, at) => withUnit(at === null ? latest(plot.data[line]) : value, this.spec.unit),
        })),
      ],
      hooks: {
        drawClear: this.heat ? [(plot) => drawHeat(plot, this.data.unix_s, this.width_s, this.heat, ink)] : [],
        draw: [(plot) => drawMarks(plot, this.limits, this.markers, ink)],
        setSelect: [(plot) => { if (plot.select.width > 0) document.dispatchEvent(new CustomEvent("tokenswarm:zoom")); }],
      },
    };
    this.plot = new uPlot(options, columns, this.place);
  }
}

// An axis whose numbers are 1, 2 and 5 times powers of ten, as many as there is room for.
const logarithmic = {
  splits: (plot) => {
    const { min, max } = plot.scales.y;
    const found = [];
    for (let power = Math.floor(Math.log10(min)); power <= Math.ceil(Math.log10(max)); power += 1) {
      for (const step of [1, 2, 5]) {
        const at = Number((step * 10 ** power).toPrecision(1));
        if (at >= min && at <= max) found.push(at);
      }
    }
    const every = Math.ceil(found.length / 7);
    return found.filter((_, place) => place % every === 0);
  },
  filter: (_, splits) => splits,
};
