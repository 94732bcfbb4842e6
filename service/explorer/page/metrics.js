/** The view of the service's Prometheus metrics, read once a second while it is open. */

import { RequestError, fetchText } from "./api.js";
import { byId, create } from "./dom.js";

const KEPT = 120;
const CHARTS = {
  samples: { title: "Samples per second", unit: "", valueOf: (now, before, seconds) => increase(now, before, "latentd_samples_total") / seconds },
  requests: { title: "Requests per second", unit: "", valueOf: (now, before, seconds) => increase(now, before, "latentd_requests_total") / seconds },
  queue: { title: "Samples in the queue", unit: "", valueOf: (now) => sum(now, "latentd_queued_samples") },
  fill: { title: "Batch fill", unit: "%", valueOf: (now, before) => 100 * mean(now, before, "latentd_batch_fill_ratio") },
  batch: { title: "Samples per batch", unit: "", valueOf: (now, before) => mean(now, before, "latentd_batch_samples") },
  time: { title: "Time per request", unit: "ms", valueOf: (now, before) => 1000 * mean(now, before, "latentd_request_seconds") },
};

export class MetricsView {
  #before = null;
  #session = 0;
  /** Counts how often the view was opened or closed, so that polling ends with the session that began it. */
  #values = Object.fromEntries(Object.keys(CHARTS).map((name) => [name, []]));

  constructor(app) {
    this.app = app;
    this.cards = Object.fromEntries(Object.entries(CHARTS).map(([name, { title }]) => [name, createCard(title)]));
    byId("metrics").replaceChildren(
      create("h2", {}, "Metrics"),
      create("p", { class: "muted" }, "Read from the service's /metrics once a second. The last two minutes are shown."),
      create("div", { class: "cards" }, ...Object.values(this.cards).map(({ element }) => element)),
    );
  }

  show(shown) {
    if (shown === !byId("metrics").hidden) return;
    byId("metrics").hidden = !shown;
    this.#before = null;
    this.#session += 1;
    if (shown) this.#poll(this.#session);
  }

  async #poll(session) {
    while (session === this.#session) {
      if (!document.hidden) await this.#read(session);
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }

  async #read(session) {
    try {
      const now = { at: performance.now(), values: parse(await fetchText("/metrics", { accept: "text/plain" })) };
      if (session !== this.#session) return;
      if (this.#before) this.#add(now, this.#before);
      this.#before = now;
      this.app.notice.clearError();
    } catch (problem) {
      if (!(problem instanceof RequestError)) throw problem;
      this.app.fail(problem);
    }
  }

  #add(now, before) {
    const seconds = (now.at - before.at) / 1000;
    for (const [name, { valueOf, unit }] of Object.entries(CHARTS)) {
      const values = this.#values[name];
      values.push(valueOf(now.values, before.values, seconds));
      if (values.length > KEPT) values.shift();
      draw(this.cards[name], values, unit);
    }
  }
}

function createCard(title) {
  const value = create("p", { class: "value" }, "–");
  const maximum = create("p", { class: "muted maximum" }, " ");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${KEPT - 1} 40`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const path = svg.appendChild(document.createElementNS(svg.namespaceURI, "path"));
  return { element: create("section", { class: "card" }, create("h3", {}, title), value, svg, maximum), value, maximum, path };
}

/** Draw values, the latest at the right edge; what is not a finite number leaves a gap. */
function draw({ value, maximum, path }, values, unit) {
  const finite = values.filter(Number.isFinite);
  const highest = Math.max(...finite, 0);
  const last = values.at(-1);
  value.textContent = Number.isFinite(last) ? `${rounded(last)}${unit && ` ${unit}`}` : "–";
  maximum.textContent = finite.length ? `at most ${rounded(highest)}${unit && ` ${unit}`} in the last two minutes` : " ";
  let command = "M";
  path.setAttribute("d", values.map((each, index) => {
    if (!Number.isFinite(each)) { command = "M"; return ""; }
    const step = `${command}${KEPT - values.length + index} ${(38 - (36 * each) / (highest || 1)).toFixed(2)}`;
    command = "L";
    return step;
  }).join(""));
}

const rounded = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2).replace(/\.?0+$/, ""));

/** Prometheus's text format → Map(name → Map(labels → value)). */
function parse(text) {
  const metrics = new Map();
  for (const line of text.split("\n")) {
    const match = /^(latentd_[a-z_]+)(\{.*\})? (\S+)/.exec(line);
    if (!match) continue;
    if (!metrics.has(match[1])) metrics.set(match[1], new Map());
    metrics.get(match[1]).set(match[2] ?? "", Number(match[3]));
  }
  return metrics;
}

const total = (values) => values.reduce((sofar, each) => sofar + each, 0);
const sum = (metrics, name) => (metrics.has(name) ? total([...metrics.get(name).values()]) : NaN);

/** The increase of a counter, over all its series. A series that is lower than before was reset: it began at 0. */
function increase(now, before, name) {
  const old = before.get(name) ?? new Map();
  return total([...(now.get(name) ?? [])].map(([labels, value]) => (value < (old.get(labels) ?? 0) ? value : value - (old.get(labels) ?? 0))));
}

const mean = (now, before, name) => increase(now, before, `${name}_sum`) / increase(now, before, `${name}_count`);
