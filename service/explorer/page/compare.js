/** Two versions side by side: their samples of the same seeds, and their figures. */

import { RequestError, fetchJson } from "./api.js";
import { byId, create } from "./dom.js";
import { can, classNames } from "./state.js";
import { viewOf } from "./views.js";

const MAX_TILES = 24;
const SIDES = ["left", "right"];

export class CompareView {
  #shown = "";
  /** What is shown, or being fetched: both versions and the seeds. */
  #models = new Map();
  /** `name@version` → what GET /models says about it, with its view. */

  constructor(app) {
    this.app = app;
    byId("against").addEventListener("change", ({ target }) => app.change({ against: target.value }));
    byId("compare-reroll").addEventListener("click", () => app.reroll());
  }

  show(shown) {
    byId("compare").hidden = !shown;
    if (shown && this.app.model) this.#render();
  }

  /** Offer the versions in the list of models. */
  setVersions(versions) {
    this.#models.clear();
    this.#shown = "";
    byId("against").replaceChildren(create("option", { value: "" }, "choose a version"), ...versions.map((each) => create("option", { value: referenceOf(each) }, titleOf(each))));
  }

  #render() {
    const { app } = this;
    const left = referenceOf(app.model);
    const right = app.versions.some((each) => referenceOf(each) === app.state.against) ? app.state.against : other(app.versions, app.model);
    byId("against").value = right ?? "";
    byId("compare-empty").hidden = Boolean(right);
    byId("compare-body").hidden = !right;
    if (!right) return;
    const wanted = JSON.stringify([left, right, app.state.first, app.state.label, app.state.truncation]);
    if (wanted === this.#shown) return;
    this.#shown = wanted;
    this.#fetch([left, right], wanted);
  }

  async #fetch(references, wanted) {
    const body = byId("compare-body");
    body.setAttribute("aria-busy", "true");
    try {
      const models = await Promise.all(references.map((reference) => this.#model(reference)));
      const count = Math.min(MAX_TILES, ...models.map(({ view }) => (view.isPlot ? Infinity : view.tiles)));
      const samples = await Promise.all(models.map((each) => this.#samples(each, each.view.isPlot ? each.view.tiles : count)));
      if (wanted !== this.#shown) return; // others are wanted meanwhile
      this.app.notice.clearError();
      models.forEach((each, index) => this.#showSide(SIDES[index], each, samples[index]));
      this.#showFigures(references);
    } catch (problem) {
      if (!(problem instanceof RequestError)) throw problem;
      if (wanted === this.#shown) this.#shown = "";
      this.app.fail(problem);
    } finally {
      if (wanted === this.#shown || !this.#shown) body.setAttribute("aria-busy", "false");
    }
  }

  async #model(reference) {
    if (!this.#models.has(reference)) {
      const model = await fetchJson(`/models/${reference}`);
      const surface = model.surface ? await fetchJson(`/models/${reference}/surface`) : null;
      this.#models.set(reference, { reference, model, view: viewOf(model, surface) });
    }
    return this.#models.get(reference);
  }

  /** Samples of the gallery's seeds, with its class and truncation where the model has them. */
  async #samples({ reference, model }, count) {
    if (!can(model, "seed")) return [];
    const { first, label, truncation } = this.app.state;
    const body = { model: reference, seed: first, num_samples: count };
    if (classNames(model).includes(label)) body.label = label;
    if (truncation !== 1 && model.fields.truncation) body.truncation = truncation;
    return (await fetchJson("/generate", { body })).samples;
  }

  #showSide(side, { reference, view }, samples) {
    byId(`compare-${side}-title`).textContent = reference;
    const grid = byId(`compare-${side}`);
    const tiles = samples.map((sample) => create("div", { class: "tile" },
      create("button", {
        type: "button", class: "select", "aria-pressed": "false", "aria-label": `Seed ${sample.seed}`, "data-seed": sample.seed,
        click: () => this.#mark(sample.seed),
      }),
      create("span", { class: "seed", "aria-hidden": "true" }, String(sample.seed))));
    grid.classList.toggle("plot", view.isPlot);
    grid.replaceChildren(...tiles);
    view.prepare?.(grid, samples);
    tiles.forEach((tile, index) => view.fill(view.isPlot ? tile : tile.firstChild, samples[index]));
  }

  /** Mark a seed on both sides, or unmark it. */
  #mark(seed) {
    for (const button of document.querySelectorAll("#compare .select")) {
      const marked = button.dataset.seed === String(seed) && button.getAttribute("aria-pressed") === "false";
      button.setAttribute("aria-pressed", String(marked));
      if (marked) button.dataset.letter = "A";
      else delete button.dataset.letter;
    }
  }

  #showFigures(references) {
    const [left, right] = references.map((reference) => this.app.versions.find((each) => referenceOf(each) === reference));
    if (!left || !right) return;
    const names = [...new Set([...Object.keys(left.metrics), ...Object.keys(right.metrics)])];
    const row = (name, ...values) => create("tr", {}, create("th", { scope: "row" }, name), ...values.map((value) => create("td", {}, value)));
    byId("figures").replaceChildren(
      create("tr", {}, create("td", {}), ...references.map((reference) => create("th", { scope: "col" }, reference))),
      row("state", stateOf(left), stateOf(right)),
      row("made", left.created.slice(0, 10), right.created.slice(0, 10)),
      row("recipe", left.recipe, right.recipe),
      row("data", left.data, right.data),
      row("steps", left.steps.toLocaleString("en"), right.steps.toLocaleString("en")),
      ...(names.length ? [row("figures of", left.measured || "–", right.measured || "–")] : []),
      ...names.map((name) => row(name.replaceAll("_", " "), figureOf(left, name), figureOf(right, name))),
    );
    const same = left.measured === right.measured && left.data === right.data;
    const warning = names.length && !same ? "These figures were not measured alike. " : "";
    byId("figures-note").textContent = `${warning}In brackets: the same figure of real samples.`;
  }
}

export const referenceOf = ({ name, version }) => `${name}@${version}`;

/** A version in a list to choose from. */
export const titleOf = (each) => `${referenceOf(each)}${each.current ? " · current" : ""}`;

/** The version to compare with at first: another one of the same name, else of the same recipe. */
function other(versions, model) {
  const others = versions.filter((each) => each.version !== model.version);
  const found = others.find(({ name }) => name === model.name) ?? others.find(({ recipe }) => recipe === model.card.recipe);
  return found ? referenceOf(found) : null;
}

function stateOf({ current, why, hidden_by: hiddenBy, run }) {
  if (run) return `run, ${run}`;
  if (current) return why === "promoted" ? "current, promoted" : "current";
  return hiddenBy ? "not current" : "only with its version";
}

function figureOf({ metrics, floors }, name) {
  if (metrics[name] === undefined) return "–";
  const number = (value) => Number(value.toPrecision(4)).toString();
  return floors[name] === undefined ? number(metrics[name]) : `${number(metrics[name])} (${number(floors[name])})`;
}
