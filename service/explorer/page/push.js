/** What changes all samples at once: truncation, and the directions that the model has. */

import { byId, make } from "./dom.js";

export class Push {
  #sliders = {};

  constructor(app) {
    this.app = app;
    byId("rest").addEventListener("click", () => app.change({ truncation: 1, push: {} }));
  }

  /** The sliders of a model. */
  clear(directions) {
    const { change } = this.app;
    this.#sliders = {};
    const truncation = row("truncation", "Truncation", "ψ: typical to the left, varied to the right", null, { min: 0.05, max: 1, step: 0.01 }, (value, moving) => change({ truncation: value }, moving));
    const rows = directions.map((each) => row(`push-${each.name}`, each.name, each.about, each.preview ?? "", { min: -each.range, max: each.range, step: each.range / 60 }, (value, moving) => {
      const push = { ...this.app.state.push };
      if (value === 0) delete push[each.name];
      else push[each.name] = value;
      change({ push }, moving);
    }));
    [truncation, ...rows].forEach(({ name, slider, output }) => { this.#sliders[name] = { slider, output }; });
    byId("push-help").textContent = rows.length ? "they move all samples at once" : "latentd directions finds some for this model";
    byId("pushes").replaceChildren(truncation.element, ...rows.map(({ element }) => element));
  }

  render() {
    const { truncation, push } = this.app.state;
    for (const [name, { slider, output }] of Object.entries(this.#sliders)) {
      const value = name === "truncation" ? truncation : push[name.slice("push-".length)] ?? 0;
      if (Number(slider.value) !== value) slider.value = String(value);
      output.textContent = name === "truncation" ? value.toFixed(2) : signed(value);
      slider.setAttribute("aria-valuetext", output.textContent);
    }
    byId("rest").disabled = truncation === 1 && Object.keys(push).length === 0;
  }
}

const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(2);

function row(name, title, about, preview, range, move) {
  const id = `slider-${name}`;
  const slider = make("input", { type: "range", id, ...range, "aria-describedby": `${id}-about` });
  const tell = (moving) => () => move(Number(Number(slider.value).toFixed(4)), moving);
  slider.addEventListener("input", tell(true));
  slider.addEventListener("change", tell(false));
  slider.addEventListener("dblclick", () => move(name === "truncation" ? 1 : 0, false));
  const output = make("output", { for: id });
  const strip = preview ? [make("img", { class: "strip", src: `data:image/png;base64,${preview}`, alt: "" })] : [];
  const element = make("div", { class: preview === null ? "slider" : "slider centred" },
    make("label", { for: id }, title), output, make("p", { class: "quiet", id: `${id}-about` }, about), ...strip, slider);
  return { name, element, slider, output };
}
