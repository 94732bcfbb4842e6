// Curves over steps: all charts share the axis, the step pointed at, and the step of the samples shown.

const LEFT = 46;
const RIGHT = 10;
const TOP = 12;
const BOTTOM = 26;
const FEW = 30; // points that are drawn as dots too
const WIDE = 3; // times that the largest value is the smallest, from where a logarithmic scale shows more
const WIDEST = 20; // from where it is what a figure starts out with

const charts = [];
const lastStep = Math.max(
  1,
  isNumber(run.reached.step) ? run.reached.step : 0,
  ...run.frames.map((frame) => frame.step),
);

const pointAt = (step) => charts.forEach((chart) => chart.pointAt(step));
const markShown = (step) => charts.forEach((chart) => chart.markShown(step));
let whenChosen = () => {}; // a step was clicked

/** A chart of `names` in `moments` ({step, values}); `floor` is drawn as a dashed line. */
class Chart {
  constructor({ title, meaning, moments, names, span, mark, logarithmic }) {
    this.moments = moments.filter((moment) => names.some((name) => isNumber(moment.values[name])));
    this.names = names;
    this.span = span;
    this.mark = mark;
    this.at = null;
    this.shown = null;
    const values = this.values();
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const canBeLogarithmic = !span && least > 0 && most > WIDE * least;
    this.logarithmic = canBeLogarithmic && logarithmic && most > WIDEST * least;
    this.svg = draw("svg", {
      class: "plot", tabindex: 0, role: "slider", "aria-label": `${title} over steps`,
      "aria-valuemin": 0, "aria-valuemax": lastStep,
    });
    this.legend = make("p", { class: "legend", "aria-hidden": "true" });
    this.element = make(
      "figure", { class: "chart" },
      make("figcaption", {}, make("h3", {}, title), canBeLogarithmic ? this.scaleSwitch(title) : null),
      meaning ? make("p", { class: "meaning" }, meaning) : null,
      this.legend,
      this.svg,
    );
    this.listen();
    charts.push(this);
  }

  values() {
    const own = this.moments.flatMap((moment) => this.names.map((name) => moment.values[name]));
    return [...own, this.mark ? this.mark[0] : null].filter(isNumber);
  }

  scaleSwitch(title) {
    const box = make("input", { type: "checkbox", "aria-label": `${title}: logarithmic scale` });
    box.checked = this.logarithmic;
    box.addEventListener("change", () => {
      this.logarithmic = box.checked;
      this.redraw();
    });
    return make("label", { class: "switch" }, box, make("span", {}, "log"));
  }

  listen() {
    const stepOf = (event) => {
      const box = this.svg.getBoundingClientRect();
      return ((event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT)) * lastStep;
    };
    this.svg.addEventListener("pointermove", (event) => pointAt(this.snapped(stepOf(event))));
    this.svg.addEventListener("pointerleave", () => pointAt(null));
    this.svg.addEventListener("blur", () => pointAt(null));
    this.svg.addEventListener("click", (event) => whenChosen(this.snapped(stepOf(event))));
    this.svg.addEventListener("keydown", (event) => {
      const last = this.moments.length - 1;
      const now = this.at === null ? last : nearestTo(this.moments, this.at);
      const to = {
        ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1,
        PageDown: now - 10, PageUp: now + 10, Home: 0, End: last,
      }[event.key];
      if (event.key === "Enter") whenChosen(this.moments[now].step);
      if (to === undefined) return;
      event.preventDefault();
      pointAt(this.moments[Math.min(last, Math.max(0, to))].step);
    });
    new ResizeObserver(() => this.redraw()).observe(this.svg);
  }

  snapped(step) {
    return this.moments[nearestTo(this.moments, step)].step;
  }

  pointAt(step) {
    this.at = step;
    this.redrawCursor();
  }

  markShown(step) {
    this.shown = step;
    this.redrawCursor();
  }

  redraw() {
    const { clientWidth: width, clientHeight: height } = this.svg;
    if (!width) return;
    this.right = width - RIGHT;
    this.floor = height - BOTTOM;
    this.x = (step) => LEFT + (step / lastStep) * (this.right - LEFT);
    this.setScale();
    this.cursor = draw("g");
    this.svg.replaceChildren(
      ...this.grid(),
      ...run.alarms.map((alarm) => this.alarmAt(alarm)),
      ...(this.mark ? [this.markLine()] : []),
      ...this.names.map((name, number) => this.curve(name, number)),
      ...(this.mark ? [this.markLabel()] : []),
      this.cursor,
    );
    this.redrawCursor();
  }

  setScale() {
    const values = this.values();
    let [low, high] = this.span || [Math.min(...values), Math.max(...values)];
    if (this.logarithmic) {
      [low, high] = [Math.log10(low) - 0.05, Math.log10(high) + 0.05];
    } else if (!this.span) {
      if (low > 0 && low < high / 2) low = 0;
      const room = (high - low) * 0.05 || Math.abs(high) * 0.1 || 1;
      [low, high] = [low === 0 ? 0 : low - room, high + room];
    }
    const place = (value) => this.floor - ((value - low) / (high - low)) * (this.floor - TOP);
    this.y = this.logarithmic ? (value) => place(Math.log10(value)) : place;
    this.ticks = this.logarithmic ? logTicks(low, high) : linearTicks(low, high, 4);
  }

  grid() {
    const steps = linearTicks(0, lastStep, this.right > 400 ? 5 : 3).filter(Number.isInteger);
    return [
      ...this.ticks.map((value) =>
        draw("g", { class: "tick" },
          draw("line", { x1: LEFT, x2: this.right, y1: this.y(value), y2: this.y(value) }),
          draw("text", { x: LEFT - 8, y: this.y(value) + 4, "text-anchor": "end" }, tickLabel(value)))),
      ...steps.map((step) =>
        draw("text", { class: "step", x: this.x(step), y: this.floor + 18, "text-anchor": this.anchor(step) }, short(step))),
      draw("line", { class: "axis", x1: LEFT, x2: this.right, y1: this.floor, y2: this.floor }),
    ];
  }

  anchor(step) {
    return this.x(step) > this.right - 16 ? "end" : "middle";
  }

  alarmAt({ step, kind }) {
    const x = this.x(step);
    return draw("g", { class: "alarm-mark" },
      draw("title", {}, `Alarm at step ${count(step)}: ${kind}`),
      draw("line", { x1: x, x2: x, y1: TOP, y2: this.floor }),
      draw("path", { d: `M${x} ${this.floor - 9}l5.5 9h-11z` }));
  }

  markLine() {
    const y = this.y(this.mark[0]);
    return draw("line", { class: "mark", x1: LEFT, x2: this.right, y1: y, y2: y });
  }

  markLabel() {
    const [value, label] = this.mark;
    const y = this.y(value);
    const beside = y > TOP + 14 ? y - 5 : y + 14;
    return draw("text", { class: "mark-label", x: this.right, y: beside, "text-anchor": "end" }, label);
  }

  curve(name, number) {
    let path = "";
    let pen = "M";
    const dots = [];
    for (const { step, values } of this.moments) {
      if (!isNumber(values[name])) {
        pen = "M"; // a number that was none leaves a gap
        continue;
      }
      const [x, y] = [this.x(step).toFixed(1), this.y(values[name]).toFixed(1)];
      path += `${pen}${x} ${y}`;
      pen = "L";
      if (this.moments.length <= FEW) dots.push(draw("circle", { cx: x, cy: y, r: 2.5 }));
    }
    return draw("g", { class: `curve colour-${number % 4}` }, draw("path", { d: path }), ...dots);
  }

  redrawCursor() {
    if (!this.cursor || !this.moments.length) return;
    const moment = this.moments[this.at === null ? this.moments.length - 1 : nearestTo(this.moments, this.at)];
    const lines = [];
    if (this.shown !== null) lines.push(this.upright("shown", this.shown));
    if (this.at !== null) lines.push(this.upright("pointed", moment.step));
    const dots = this.names
      .map((name, number) => [moment.values[name], number])
      .filter(([value]) => this.at !== null && isNumber(value))
      .map(([value, number]) =>
        draw("circle", { class: `dot colour-${number % 4}`, cx: this.x(moment.step), cy: this.y(value), r: 4 }));
    this.cursor.replaceChildren(...lines, ...dots);
    this.say(moment);
  }

  upright(kind, step) {
    return draw("line", { class: kind, x1: this.x(step), x2: this.x(step), y1: TOP, y2: this.floor });
  }

  say({ step, values }) {
    const many = this.names.length > 1;
    const entries = this.names.map((name, number) =>
      make("span", { class: `entry colour-${number % 4}` },
        many ? make("span", { class: "label" }, titleOf(name)) : null, make("b", {}, figure(values[name]))));
    this.legend.replaceChildren(...entries, make("span", { class: "at" }, `step ${count(step)}`));
    this.svg.setAttribute("aria-valuenow", step);
    const said = this.names.map((name) => `${titleOf(name)} ${figure(values[name])}`).join(", ");
    this.svg.setAttribute("aria-valuetext", `step ${count(step)}: ${said}`);
  }
}

function linearTicks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * 0.99);
  const first = Math.ceil(low / size - 1e-9);
  const last = Math.floor(high / size + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * size).toPrecision(12)));
}

/** Of a range of decimal logarithms: powers of ten, with 2 and 5 between where there are few. */
function logTicks(low, high) {
  const factors = high - low < 2 ? [1, 2, 5] : [1];
  const every = Math.ceil((high - low) / 5);
  const ticks = [];
  for (let power = Math.floor(low); power <= high; power += 1) {
    if (power % every) continue;
    ticks.push(...factors.map((factor) => factor * 10 ** power));
  }
  return ticks.filter((value) => Math.log10(value) >= low && Math.log10(value) <= high);
}

const tickLabel = (value) =>
  value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential().replaceAll("-", "−") : figure(value);

function short(step) {
  if (step >= 1e6) return `${Number((step / 1e6).toPrecision(3))}M`;
  return step >= 10000 ? `${Number((step / 1e3).toPrecision(3))}k` : count(step);
}
