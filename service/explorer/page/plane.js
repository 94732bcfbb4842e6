/** The pad on which a point in the plane of three samples is chosen; two sliders do the same for the keyboard. */

import { byId, create } from "./dom.js";
import { letterOf } from "./names.js";

const CORNERS = [[0, 0], [1, 0], [0, 1]];
/** Of A, B and C, as weights of B and C. The pad extends by 0.5 beyond them on each side. */

export class PlanePad {
  constructor(app) {
    const pad = byId("pad");
    this.marker = byId("marker");
    pad.append(...CORNERS.map((weights, index) => moveTo(create("span", { class: "letter", "data-letter": letterOf(index) }, letterOf(index)), weights)));
    const follow = (event, dragging) => {
      const box = pad.getBoundingClientRect();
      app.change({ plane: fromPad((event.clientX - box.x) / box.width, (event.clientY - box.y) / box.height) }, dragging);
    };
    pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); follow(event, true); });
    pad.addEventListener("pointermove", (event) => { if (pad.hasPointerCapture(event.pointerId)) follow(event, true); });
    pad.addEventListener("pointerup", (event) => follow(event, false));
    this.sliders = [byId("toward-b"), byId("toward-c")];
    for (const slider of this.sliders) slider.addEventListener("input", () => app.change({ plane: this.sliders.map((each) => Number(each.value)) }));
  }

  render({ plane }) {
    this.sliders.forEach((slider, index) => { slider.value = String(plane[index]); });
    moveTo(this.marker, plane);
  }
}

/** Weights of B and C ↔ fractions of the pad's side from its left and top. */
const onPad = ([weightB, weightC]) => [(weightB + 0.5) / 2, 1 - (weightC + 0.5) / 2];
const fromPad = (x, y) => [2 * x - 0.5, 2 * (1 - y) - 0.5].map((each) => Number(Math.max(-0.5, Math.min(1.5, each)).toFixed(2)));

function moveTo(element, weights) {
  const [x, y] = onPad(weights);
  element.style.left = `${100 * x}%`;
  element.style.top = `${100 * y}%`;
  return element;
}
