/** The selected samples, shown without truncation and directions. */

import { LatestRequest, fetchJson } from "./api.js";
import { byId, create } from "./dom.js";
import { letterOf, sampleName } from "./names.js";
import { seedsBody } from "./requests.js";

export class Selection {
  #samples = new Map();
  #rendered = "";

  constructor(app) {
    this.app = app;
    this.latest = new LatestRequest(
      byId("selection"),
      async ({ model, wanted }) => (await fetchJson("/generate", { body: seedsBody(model, wanted) })).samples,
      (samples, { model, wanted }) => { if (model === app.model) this.#add(wanted, samples); },
      app.fail,
    );
  }

  /** Forget the samples: another model was chosen. */
  clear() {
    this.latest.cancel();
    this.#samples.clear();
  }

  /** Keep samples that were made without truncation and directions, so that they need not be fetched. */
  remember(samples) {
    for (const sample of samples) this.#samples.set(keyOf({ seed: sample.seed, label: sample.label ?? null }), sample);
  }

  /** The sample of a seed and a label, or undefined if it is not here yet. */
  sampleOf = (selected) => this.#samples.get(keyOf(selected));

  render() {
    const { selection, mode, focus } = this.app.state;
    const rendered = JSON.stringify(selection.map((selected) => [selected, this.#samples.has(keyOf(selected))]));
    if (rendered !== this.#rendered) this.#build(selection);
    this.#rendered = rendered;
    byId("selection").querySelectorAll(".show").forEach((button, index) => {
      button.setAttribute("aria-pressed", String(mode === "sample" && index === focus));
    });
    const missing = selection.filter((selected) => !this.sampleOf(selected));
    const wanted = missing.filter(({ label }) => (label === null) === (missing[0].label === null));
    if (wanted.length) this.latest.want({ model: this.app.model, wanted });
  }

  #build(selection) {
    const list = byId("selection");
    const focused = [...list.querySelectorAll("button")].indexOf(document.activeElement);
    list.replaceChildren(...selection.map((selected, index) => {
      const name = `${letterOf(index)}: ${sampleName(selected)}`;
      const show = create("button", { type: "button", class: "show", title: name, "aria-label": `Show ${name}`, click: () => this.app.showSelected(index) });
      const sample = this.sampleOf(selected);
      if (sample) this.app.view.fillThumbnail(show, sample);
      const remove = create("button", { type: "button", class: "remove", "aria-label": `Remove ${name}`, click: () => this.app.deselect(index) }, "×");
      return create("li", { "data-letter": letterOf(index) }, create("b", { class: "letter", "aria-hidden": "true" }, letterOf(index)), show, remove);
    }));
    const buttons = list.querySelectorAll("button");
    if (focused >= 0) (buttons[Math.min(focused, buttons.length - 1)] ?? byId("viewer")).focus();
  }

  /** Add fetched samples. A link may leave a label open; it is then the label that belongs to the seed. */
  #add(wanted, samples) {
    this.remember(samples);
    const labels = new Map(wanted.map((selected, index) => [keyOf(selected), samples[index].label ?? null]));
    this.app.setSelection(this.app.state.selection.map((selected) => (labels.has(keyOf(selected)) ? { ...selected, label: labels.get(keyOf(selected)) } : selected)));
  }
}

const keyOf = ({ seed, label }) => `${seed} ${label ?? ""}`;
