/** The sliders that move all samples at once: truncation, and the model's directions. */

import { byId, create } from "./dom.js";
import { can, ownFields } from "./state.js";

const TRUNCATION = "truncation";

export class DirectionSliders {
  #sliders = new Map();
  #controls = new Map();

  constructor(app) {
    this.app = app;
    byId("reset").addEventListener("click", () => app.change({ truncation: 1, amounts: {}, fields: withoutNumbers(app.state.fields) }));
  }

  /** Build the sliders of a model. */
  clear(directions) {
    const { change } = this.app;
    const truncation = buildSlider({
      name: TRUNCATION, title: "Truncation", about: "ψ: low values give typical samples, high values more variety", initial: 1,
      range: { min: 0.05, max: 1, step: 0.01 }, onChange: (value, dragging) => change({ truncation: value }, dragging),
    });
    const { model } = this.app;
    const controls = ownFields(model, "number").map(([name, { minimum, maximum, default: initial }]) => buildSlider({
      name: `field-${name}`, title: name, about: `${minimum} to ${maximum}`, initial,
      range: { min: minimum, max: maximum, step: (maximum - minimum) / 100 },
      onChange: (value, dragging) => {
        const fields = { ...this.app.state.fields, [name]: value };
        if (value === initial) delete fields[name];
        change({ fields }, dragging);
      },
    }));
    const rows = directions.map(({ name, about, preview, range }) => buildSlider({
      name: `direction-${name}`, title: name, about, preview, initial: 0, isCentred: true,
      range: { min: -range, max: range, step: range / 60 },
      onChange: (value, dragging) => {
        const amounts = { ...this.app.state.amounts };
        if (value === 0) delete amounts[name];
        else amounts[name] = value;
        change({ amounts }, dragging);
      },
    }));
    const shared = model.fields.truncation ? [truncation] : [];
    this.#controls = new Map(ownFields(model, "number").map(([name, schema], index) => [name, { ...controls[index], initial: schema.default }]));
    this.#sliders = new Map([...shared.map((row) => [TRUNCATION, row]), ...rows.map((row, index) => [directions[index], row])]);
    byId("directions-help").textContent = rows.length || !can(model, "directions") ? "They move all samples at once." : "This model has none. The command latentd directions finds some.";
    byId("directions").hidden = !can(model, "directions") && !controls.length;
    byId("sliders").replaceChildren(...[...shared, ...controls, ...rows].map(({ element }) => element));
  }

  render() {
    const { truncation, amounts } = this.app.state;
    for (const [key, { slider, output }] of this.#sliders) {
      const value = key === TRUNCATION ? truncation : amounts[key.name] ?? 0;
      if (Number(slider.value) !== value) slider.value = String(value);
      output.textContent = key === TRUNCATION ? value.toFixed(2) : signed(value);
      slider.setAttribute("aria-valuetext", output.textContent);
    }
    for (const [name, { slider, output, initial }] of this.#controls) {
      const value = this.app.state.fields[name] ?? initial;
      if (Number(slider.value) !== value) slider.value = String(value);
      output.textContent = String(Number(value.toFixed(2)));
      slider.setAttribute("aria-valuetext", output.textContent);
    }
    byId("reset").disabled = truncation === 1 && Object.keys(amounts).length === 0 && ![...this.#controls.keys()].some((name) => name in this.app.state.fields);
  }
}

const withoutNumbers = (fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => typeof value !== "number"));
const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(2);

/** A slider with its title and text. A double click sets it to `initial`. */
function buildSlider({ name, title, about, preview, initial, isCentred, range, onChange }) {
  const id = `slider-${name}`;
  const slider = create("input", { type: "range", id, ...range, "aria-describedby": `${id}-about` });
  const report = (dragging) => () => onChange(Number(Number(slider.value).toFixed(4)), dragging);
  slider.addEventListener("input", report(true));
  slider.addEventListener("change", report(false));
  slider.addEventListener("dblclick", () => onChange(initial, false));
  const output = create("output", { for: id });
  const strip = preview ? [create("img", { class: "strip", src: `data:image/png;base64,${preview}`, alt: "" })] : [];
  const element = create("div", { class: isCentred ? "slider centred" : "slider" },
    create("label", { for: id }, title), output, create("p", { class: "muted", id: `${id}-about` }, about), ...strip, slider);
  return { element, slider, output };
}
