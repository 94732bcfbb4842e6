/** The gallery: many samples by their seeds, to select from. */

import { arrowNavigation, byId, create } from "./dom.js";
import { letterOf, sampleName } from "./names.js";

export class Gallery {
  #tiles = [];
  #samples = [];

  /** `on.select(sample)` and `on.lock(tile, seed)` are called by clicks and keys. */
  constructor(on) {
    this.on = on;
    this.container = byId("tiles");
    this.updateTabStop = arrowNavigation(this.container, ".select");
    this.container.addEventListener("keydown", (event) => {
      const index = this.#tiles.findIndex((tile) => tile.contains(event.target));
      if (event.key.toLowerCase() !== "l" || index < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.#lock(index);
    });
  }

  /** Show empty tiles, as many as `view` has, until the samples come. */
  clear(view) {
    this.view = view;
    this.#samples = [];
    this.container.classList.toggle("plot", Boolean(view.isPlot));
    byId("lock-help").hidden = Boolean(view.isPlot);
    this.#tiles = Array.from({ length: view.tiles }, (_, index) => create("div", { class: "tile" },
      create("button", { type: "button", class: "select", tabindex: -1, disabled: true, "aria-pressed": "false", click: () => this.on.select(this.#samples[index]) }),
      create("button", { type: "button", class: "lock", tabindex: -1, "aria-pressed": "false", "aria-label": "Lock", hidden: true, click: () => this.#lock(index) }),
      create("span", { class: "seed", "aria-hidden": "true" })));
    this.container.replaceChildren(...this.#tiles);
  }

  /** The seed of each tile: counted from the first, unless it is locked. */
  seeds({ first, locks }) {
    return this.#tiles.map((_, index) => locks[index] ?? first + index);
  }

  show(samples, state) {
    this.#samples = samples;
    this.view.prepare?.(this.container, samples);
    samples.forEach((sample, index) => {
      const [select, lock, seed] = this.#tiles[index].children;
      seed.textContent = sample.seed ?? sample.image_sha256?.slice(0, 8) ?? "";
      select.disabled = false;
      lock.hidden = sample.seed === undefined;
      this.view.fill(this.view.isPlot ? this.#tiles[index] : select, sample);
    });
    this.mark(state);
    this.updateTabStop();
  }

  /** Mark the tiles that are selected and those that are locked. */
  mark({ selection, locks }) {
    this.#samples.forEach((sample, index) => {
      const [select, lock] = this.#tiles[index].children;
      const selected = selection.findIndex(({ seed, label }) => seed === sample.seed && label === (sample.label ?? null));
      const locked = index in locks;
      select.setAttribute("aria-pressed", String(selected >= 0));
      if (selected >= 0) select.dataset.letter = letterOf(selected);
      else delete select.dataset.letter;
      select.setAttribute("aria-label", `${sampleName(sample)}${selected >= 0 ? `, selected as ${letterOf(selected)}` : ""}${locked ? ", locked" : ""}`);
      select.title = sampleName(sample);
      lock.setAttribute("aria-pressed", String(locked));
      lock.setAttribute("aria-label", `Lock seed ${sample.seed}`);
    });
  }

  #lock(index) {
    if (this.#samples[index]) this.on.lock(index, this.#samples[index].seed);
  }
}
