/** The tray: what was picked, as it is without truncation and directions. */

import { Newest, askJson } from "./api.js";
import { byId, make } from "./dom.js";
import { ofSeeds } from "./requests.js";
import { letterOf, nameOf } from "./words.js";

export class Tray {
  #samples = new Map();
  #built = "";

  constructor(app) {
    this.app = app;
    this.newest = new Newest(
      byId("tray"),
      async ({ model, picks }) => ({ model, samples: (await askJson("/generate", ofSeeds(model, picks))).samples }),
      ({ model, samples }, { picks }) => { if (model === app.model) this.#fill(picks, samples); },
      app.fail,
    );
  }

  /** Another model. */
  clear() {
    this.newest.forget();
    this.#samples.clear();
  }

  /** Remember samples as they are at rest. */
  know(samples) {
    for (const sample of samples) this.#samples.set(keyOf({ seed: sample.seed, label: sample.label ?? null }), sample);
  }

  /** A pick as it is at rest, if it is known. */
  of = (pick) => this.#samples.get(keyOf(pick));

  render() {
    const { picks, way, focus } = this.app.state;
    const built = JSON.stringify(picks.map((pick) => [pick, this.#samples.has(keyOf(pick))]));
    if (built !== this.#built) this.#build(picks);
    this.#built = built;
    byId("tray").querySelectorAll(".shows").forEach((button, index) => {
      button.setAttribute("aria-pressed", String(way === "sample" && index === focus));
    });
    const unknown = picks.filter((pick) => !this.of(pick));
    const together = unknown.filter(({ label }) => (label === null) === (unknown[0].label === null));
    if (together.length) this.newest.want({ model: this.app.model, picks: together });
  }

  #build(picks) {
    const tray = byId("tray");
    const focused = [...tray.querySelectorAll("button")].indexOf(document.activeElement);
    tray.replaceChildren(...picks.map((pick, index) => {
      const name = `${letterOf(index)}: ${nameOf(pick)}`;
      const shows = make("button", { type: "button", class: "shows", title: name, "aria-label": `Show ${name}`, click: () => this.app.showPick(index) });
      const sample = this.of(pick);
      if (sample) this.app.view.thumb(shows, sample);
      const away = make("button", { type: "button", class: "away", "aria-label": `Remove ${name}`, click: () => this.app.putBack(index) }, "×");
      return make("li", { "data-letter": letterOf(index) }, make("b", { class: "letter", "aria-hidden": "true" }, letterOf(index)), shows, away);
    }));
    const buttons = tray.querySelectorAll("button");
    if (focused >= 0) (buttons[Math.min(focused, buttons.length - 1)] ?? byId("stage")).focus();
  }

  /** A link that was written by hand may leave a pick's class open: it is the seed's, then. */
  #fill(picks, samples) {
    this.know(samples);
    const labels = new Map(picks.map((pick, index) => [keyOf(pick), samples[index].label ?? null]));
    this.app.settlePicks(this.app.state.picks.map((pick) => (labels.has(keyOf(pick)) ? { ...pick, label: labels.get(keyOf(pick)) } : pick)));
  }
}

const keyOf = ({ seed, label }) => `${seed} ${label ?? ""}`;
