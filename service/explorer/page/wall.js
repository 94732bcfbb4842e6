/** The wall: many samples by seed, to pick from. */

import { arrows, byId, make } from "./dom.js";
import { letterOf, nameOf } from "./words.js";

export class Wall {
  #tiles = [];
  #samples = [];

  /** `on.pick(sample)` and `on.lock(tile, seed)` are told what a person does. */
  constructor(on) {
    this.on = on;
    this.field = byId("tiles");
    this.keepReachable = arrows(this.field, ".pick");
    this.field.addEventListener("keydown", (event) => {
      const index = this.#tiles.findIndex((tile) => tile.contains(event.target));
      if (event.key.toLowerCase() !== "l" || index < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.#lock(index);
    });
  }

  /** Empty tiles for a model's samples: the room that they will take. */
  clear(view) {
    this.view = view;
    this.#samples = [];
    this.field.classList.toggle("field", Boolean(view.placed));
    this.field.closest(".wall").querySelector(".locks").hidden = Boolean(view.placed);
    this.#tiles = Array.from({ length: view.tiles }, (_, index) => make("div", { class: "tile" },
      make("button", { type: "button", class: "pick", tabindex: -1, disabled: true, "aria-pressed": "false", click: () => this.on.pick(this.#samples[index]) }),
      make("button", { type: "button", class: "lock", tabindex: -1, "aria-pressed": "false", "aria-label": "Keep", hidden: true, click: () => this.#lock(index) }),
      make("span", { class: "seed", "aria-hidden": "true" })));
    this.field.replaceChildren(...this.#tiles);
  }

  /** The seeds that a wall shows: those that are locked stay where they are. */
  seeds({ first, locks }) {
    return this.#tiles.map((_, index) => locks[index] ?? first + index);
  }

  show(samples, state) {
    this.#samples = samples;
    this.view.lay?.(this.field, samples);
    samples.forEach((sample, index) => {
      const [pick, lock, seed] = this.#tiles[index].children;
      seed.textContent = sample.seed;
      pick.disabled = lock.hidden = false;
      this.view.fill(this.view.placed ? this.#tiles[index] : pick, sample);
    });
    this.mark(state);
    this.keepReachable();
  }

  /** Which tiles are picked and which are locked. */
  mark({ picks, locks }) {
    this.#samples.forEach((sample, index) => {
      const [pick, lock] = this.#tiles[index].children;
      const place = picks.findIndex(({ seed, label }) => seed === sample.seed && label === (sample.label ?? null));
      const locked = index in locks;
      pick.setAttribute("aria-pressed", String(place >= 0));
      if (place >= 0) pick.dataset.letter = letterOf(place);
      else delete pick.dataset.letter;
      pick.setAttribute("aria-label", `${nameOf(sample)}${place >= 0 ? `, picked as ${letterOf(place)}` : ""}${locked ? ", kept" : ""}`);
      pick.title = nameOf(sample);
      lock.setAttribute("aria-pressed", String(locked));
      lock.setAttribute("aria-label", `Keep seed ${sample.seed}`);
    });
  }

  #lock(index) {
    if (this.#samples[index]) this.on.lock(index, this.#samples[index].seed);
  }
}
