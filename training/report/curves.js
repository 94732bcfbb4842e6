// Curves over steps. All charts share the x axis, the cursor's step and the step of the samples shown.

const LEFT = 46;
const RIGHT = 10;
const TOP = 12;
const BOTTOM = 26;
const MAX_DOTS = 30; // curves with more points are drawn without dots
const LOG_USEFUL = 3; // a logarithmic scale is offered if the largest value is so many times the smallest
const LOG_DEFAULT = 20; // and is chosen at first from here

const charts = [];
const lastStep = Math.max(
  1,
  isNumber(run.progress.step) ? run.progress.step : 0,
  ...run.frames.map((frame) => frame.step),
);

const setCursor = (step) => charts.forEach((chart) => chart.setCursor(step));
const markShown = (step) => charts.forEach((chart) => chart.markShown(step));
let onStepClick = () => {};

/**
 * A chart of the values `names` in `points` ({step, values}), with curves, a cursor and a legend.
 * `range`: [least, greatest] possible value, or null. `reference`: [value, label] of a dashed line, or null.
 */
class Chart {
  constructor({ title, meaning, points, names, range, reference, logarithmic }) {
    this.points = points.filter((point) => names.some((name) => isNumber(point.values[name])));
    this.names = names;
    this.range = range;
    this.reference = reference;
    this.cursorStep = null;
    this.shownStep = null;
    const values = this.values();
    const [least, greatest] = [Math.min(...values), Math.max(...values)];
    const canBeLogarithmic = !range && least > 0 && greatest > LOG_USEFUL * least;
    this.logarithmic = canBeLogarithmic && logarithmic && greatest > LOG_DEFAULT * least;
    this.svg = svg("svg", {
      class: "plot", tabindex: 0, role: "slider", "aria-label": `${title} over steps`,
      "aria-valuemin": 0, "aria-valuemax": lastStep,
    });
    this.legend = html("p", { class: "legend", "aria-hidden": "true" });
    this.element = html(
      "figure", { class: "chart" },
      html("figcaption", {}, html("h3", {}, title), canBeLogarithmic ? this.scaleSwitch(title) : null),
      meaning ? html("p", { class: "meaning" }, meaning) : null,
      this.legend,
      this.svg,
    );
    this.listen();
    charts.push(this);
  }

  values() {
    const own = this.points.flatMap((point) => this.names.map((name) => point.values[name]));
    return [...own, this.reference ? this.reference[0] : null].filter(isNumber);
  }

  scaleSwitch(title) {
    const box = html("input", { type: "checkbox", "aria-label": `${title}: logarithmic scale` });
    box.checked = this.logarithmic;
    box.addEventListener("change", () => {
      this.logarithmic = box.checked;
      this.redraw();
    });
    return html("label", { class: "switch" }, box, html("span", {}, "log"));
  }

  listen() {
    const stepOf = (event) => {
      const box = this.svg.getBoundingClientRect();
      return ((event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT)) * lastStep;
    };
    this.svg.addEventListener("pointermove", (event) => setCursor(this.snapped(stepOf(event))));
    this.svg.addEventListener("pointerleave", () => setCursor(null));
    this.svg.addEventListener("blur", () => setCursor(null));
    this.svg.addEventListener("click", (event) => onStepClick(this.snapped(stepOf(event))));
    this.svg.addEventListener("keydown", (event) => {
      const last = this.points.length - 1;
      const now = this.cursorStep === null ? last : nearestTo(this.points, this.cursorStep);
      const to = {
        ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1,
        PageDown: now - 10, PageUp: now + 10, Home: 0, End: last,
      }[event.key];
      if (event.key === "Enter") onStepClick(this.points[now].step);
      if (to === undefined) return;
      event.preventDefault();
      setCursor(this.points[Math.min(last, Math.max(0, to))].step);
    });
    new ResizeObserver(() => this.redraw()).observe(this.svg);
  }

  snapped(step) {
    return this.points[nearestTo(this.points, step)].step;
  }

  setCursor(step) {
    this.cursorStep = step;
    this.redrawCursor();
  }

  markShown(step) {
    this.shownStep = step;
    this.redrawCursor();
  }

  redraw() {
    const { clientWidth: width, clientHeight: height } = this.svg;
    if (!width) return;
    this.right = width - RIGHT;
    this.bottom = height - BOTTOM;
    this.x = (step) => LEFT + (step / lastStep) * (this.right - LEFT);
    this.setScale();
    this.cursor = svg("g");
    this.svg.replaceChildren(
      ...this.grid(),
      ...run.alarms.map((alarm) => this.alarmMark(alarm)),
      ...(this.reference ? [this.referenceLine()] : []),
      ...this.names.map((name, index) => this.curve(name, index)),
      ...(this.reference ? [this.referenceLabel()] : []),
      this.cursor,
    );
    this.redrawCursor();
  }

  setScale() {
    const values = this.values();
    let [low, high] = this.range || [Math.min(...values), Math.max(...values)];
    if (this.logarithmic) {
      [low, high] = [Math.log10(low) - 0.05, Math.log10(high) + 0.05];
    } else if (!this.range) {
      if (low > 0 && low < high / 2) low = 0;
      const padding = (high - low) * 0.05 || Math.abs(high) * 0.1 || 1;
      [low, high] = [low === 0 ? 0 : low - padding, high + padding];
    }
    const linear = (value) => this.bottom - ((value - low) / (high - low)) * (this.bottom - TOP);
    this.y = this.logarithmic ? (value) => linear(Math.log10(value)) : linear;
    this.ticks = this.logarithmic ? logTicks(low, high) : linearTicks(low, high, 4);
  }

  grid() {
    const steps = linearTicks(0, lastStep, this.right > 400 ? 5 : 3).filter(Number.isInteger);
    return [
      ...this.ticks.map((value) =>
        svg("g", { class: "tick" },
          svg("line", { x1: LEFT, x2: this.right, y1: this.y(value), y2: this.y(value) }),
          svg("text", { x: LEFT - 8, y: this.y(value) + 4, "text-anchor": "end" }, tickLabel(value)))),
      ...steps.map((step) =>
        svg("text", { class: "step", x: this.x(step), y: this.bottom + 18, "text-anchor": this.anchor(step) }, stepLabel(step))),
      svg("line", { class: "axis", x1: LEFT, x2: this.right, y1: this.bottom, y2: this.bottom }),
    ];
  }

  anchor(step) {
    return this.x(step) > this.right - 16 ? "end" : "middle";
  }

  alarmMark({ step, kind }) {
    const x = this.x(step);
    return svg("g", { class: "alarm-mark" },
      svg("title", {}, `Alarm at step ${formatCount(step)}: ${kind}`),
      svg("line", { x1: x, x2: x, y1: TOP, y2: this.bottom }),
      svg("path", { d: `M${x} ${this.bottom - 9}l5.5 9h-11z` }));
  }

  referenceLine() {
    const y = this.y(this.reference[0]);
    return svg("line", { class: "reference", x1: LEFT, x2: this.right, y1: y, y2: y });
  }

  referenceLabel() {
    const [value, label] = this.reference;
    const y = this.y(value);
    const beside = y > TOP + 14 ? y - 5 : y + 14;
    return svg("text", { class: "reference-label", x: this.right, y: beside, "text-anchor": "end" }, label);
  }

  curve(name, index) {
    let path = "";
    let pen = "M";
    const dots = [];
    for (const { step, values } of this.points) {
      if (!isNumber(values[name])) {
        pen = "M"; // NaN leaves a gap
        continue;
      }
      const [x, y] = [this.x(step).toFixed(1), this.y(values[name]).toFixed(1)];
      path += `${pen}${x} ${y}`;
      pen = "L";
      if (this.points.length <= MAX_DOTS) dots.push(svg("circle", { cx: x, cy: y, r: 2.5 }));
    }
    return svg("g", { class: `curve colour-${index % 4}` }, svg("path", { d: path }), ...dots);
  }

  redrawCursor() {
    if (!this.cursor || !this.points.length) return;
    const hasCursor = this.cursorStep !== null;
    const point = this.points[hasCursor ? nearestTo(this.points, this.cursorStep) : this.points.length - 1];
    const lines = [];
    if (this.shownStep !== null) lines.push(this.verticalLine("shown", this.shownStep));
    if (hasCursor) lines.push(this.verticalLine("pointed", point.step));
    const dots = this.names
      .map((name, index) => [point.values[name], index])
      .filter(([value]) => hasCursor && isNumber(value))
      .map(([value, index]) =>
        svg("circle", { class: `dot colour-${index % 4}`, cx: this.x(point.step), cy: this.y(value), r: 4 }));
    this.cursor.replaceChildren(...lines, ...dots);
    this.showValues(point);
  }

  verticalLine(kind, step) {
    return svg("line", { class: kind, x1: this.x(step), x2: this.x(step), y1: TOP, y2: this.bottom });
  }

  /** Write the values at a point into the legend, and into the attributes that screen readers read. */
  showValues({ step, values }) {
    const many = this.names.length > 1;
    const entries = this.names.map((name, index) =>
      html("span", { class: `entry colour-${index % 4}` },
        many ? html("span", { class: "label" }, titleOf(name)) : null, html("b", {}, formatNumber(values[name]))));
    this.legend.replaceChildren(...entries, html("span", { class: "at" }, `step ${formatCount(step)}`));
    this.svg.setAttribute("aria-valuenow", step);
    const text = this.names.map((name) => `${titleOf(name)} ${formatNumber(values[name])}`).join(", ");
    this.svg.setAttribute("aria-valuetext", `step ${formatCount(step)}: ${text}`);
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

/** Return powers of ten between 10^low and 10^high, with 2 and 5 in between if there are few. */
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
  value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential().replaceAll("-", "−") : formatNumber(value);

function stepLabel(step) {
  if (step >= 1e6) return `${Number((step / 1e6).toPrecision(3))}M`;
  return step >= 10000 ? `${Number((step / 1e3).toPrecision(3))}k` : formatCount(step);
}
