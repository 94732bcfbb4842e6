/** The service's own pulse, read from its Prometheus metrics once a second while somebody looks. */

import { Refused, askText } from "./api.js";
import { byId, make } from "./dom.js";

const KEPT = 120;
const PULSES = {
  samples: { title: "Samples a second", unit: "", of: (now, before, seconds) => grown(now, before, "latentd_samples_total") / seconds },
  requests: { title: "Requests a second", unit: "", of: (now, before, seconds) => grown(now, before, "latentd_requests_total") / seconds },
  queue: { title: "Samples waiting", unit: "", of: (now) => sum(now, "latentd_queued_samples") },
  fill: { title: "Batches filled", unit: "%", of: (now, before) => 100 * mean(now, before, "latentd_batch_fill_ratio") },
  batch: { title: "Samples a batch", unit: "", of: (now, before) => mean(now, before, "latentd_batch_samples") },
  time: { title: "Time a request", unit: "ms", of: (now, before) => 1000 * mean(now, before, "latentd_request_seconds") },
};

export class Pulse {
  #before = null;
  #watch = 0;
  #lines = Object.fromEntries(Object.keys(PULSES).map((name) => [name, []]));

  constructor(app) {
    this.app = app;
    this.cards = Object.fromEntries(Object.entries(PULSES).map(([name, { title }]) => [name, card(title)]));
    byId("pulse").replaceChildren(
      make("h2", {}, "Pulse"),
      make("p", { class: "quiet" }, "What the service does just now, from its /metrics, once a second; two minutes are kept."),
      make("div", { class: "cards" }, ...Object.values(this.cards).map(({ element }) => element)),
    );
  }

  show(shown) {
    if (shown === !byId("pulse").hidden) return;
    byId("pulse").hidden = !shown;
    this.#before = null;
    this.#watch += 1;
    if (shown) this.#look(this.#watch);
  }

  /** Look again and again, until the `watch` is over. */
  async #look(watch) {
    while (watch === this.#watch) {
      if (!document.hidden) await this.#once(watch);
      await new Promise((wait) => setTimeout(wait, 1000));
    }
  }

  async #once(watch) {
    try {
      const now = { at: performance.now(), values: read(await askText("/metrics", { accept: "text/plain" })) };
      if (watch !== this.#watch) return;
      if (this.#before) this.#add(now, this.#before);
      this.#before = now;
      this.app.fine();
    } catch (problem) {
      if (!(problem instanceof Refused)) throw problem;
      this.app.fail(problem);
    }
  }

  #add(now, before) {
    const seconds = (now.at - before.at) / 1000;
    for (const [name, { of, unit }] of Object.entries(PULSES)) {
      const line = this.#lines[name];
      line.push(of(now.values, before.values, seconds));
      if (line.length > KEPT) line.shift();
      draw(this.cards[name], line, unit);
    }
  }
}

function card(title) {
  const value = make("p", { class: "value" }, "–");
  const most = make("p", { class: "quiet most" }, " ");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${KEPT - 1} 40`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const path = svg.appendChild(document.createElementNS(svg.namespaceURI, "path"));
  return { element: make("section", { class: "card" }, make("h3", {}, title), value, svg, most), value, most, path };
}

function draw({ value, most, path }, line, unit) {
  const known = line.filter(Number.isFinite);
  const highest = Math.max(...known, 0);
  const last = line.at(-1);
  value.textContent = Number.isFinite(last) ? `${shortly(last)}${unit && ` ${unit}`}` : "–";
  most.textContent = known.length ? `at most ${shortly(highest)}${unit && ` ${unit}`} in these two minutes` : " ";
  let pen = "M";
  path.setAttribute("d", line.map((each, index) => {
    if (!Number.isFinite(each)) { pen = "M"; return ""; }
    const step = `${pen}${KEPT - line.length + index} ${(38 - (36 * each) / (highest || 1)).toFixed(2)}`;
    pen = "L";
    return step;
  }).join(""));
}

const shortly = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2).replace(/\.?0+$/, ""));

/** Prometheus's text → each metric's series: Map(name → Map(labels → value)). */
function read(text) {
  const metrics = new Map();
  for (const line of text.split("\n")) {
    const match = /^(latentd_[a-z_]+)(\{.*\})? (\S+)/.exec(line);
    if (!match) continue;
    if (!metrics.has(match[1])) metrics.set(match[1], new Map());
    metrics.get(match[1]).set(match[2] ?? "", Number(match[3]));
  }
  return metrics;
}

const added = (values) => values.reduce((total, each) => total + each, 0);
const sum = (metrics, name) => (metrics.has(name) ? added([...metrics.get(name).values()]) : NaN);

/** By how much a metric's series have grown; one that is less than it was began anew, one that is gone is forgotten. */
function grown(now, before, name) {
  const was = before.get(name) ?? new Map();
  return added([...(now.get(name) ?? [])].map(([labels, value]) => (value < (was.get(labels) ?? 0) ? value : value - (was.get(labels) ?? 0))));
}

const mean = (now, before, name) => grown(now, before, `${name}_sum`) / grown(now, before, `${name}_count`);
