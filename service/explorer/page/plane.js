/** The pad on which a place in the plane of three picks is chosen; two sliders do the same for the keyboard. */

import { byId, make } from "./dom.js";
import { letterOf } from "./words.js";

const CORNERS = [[0, 0], [1, 0], [0, 1]];
/** Of A, B and C; the pad goes on for half a side beyond them. */

export class Plane {
  constructor(app) {
    const pad = byId("pad");
    this.spot = byId("spot");
    pad.append(...CORNERS.map((place, index) => at(make("span", { class: "letter", "data-letter": letterOf(index) }, letterOf(index)), place)));
    const follow = (event, moving) => {
      const box = pad.getBoundingClientRect();
      app.change({ plane: fromPad((event.clientX - box.x) / box.width, (event.clientY - box.y) / box.height) }, moving);
    };
    pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); follow(event, true); });
    pad.addEventListener("pointermove", (event) => { if (pad.hasPointerCapture(event.pointerId)) follow(event, true); });
    pad.addEventListener("pointerup", (event) => follow(event, false));
    this.sliders = [byId("toward-b"), byId("toward-c")];
    for (const slider of this.sliders) slider.addEventListener("input", () => app.change({ plane: this.sliders.map((each) => Number(each.value)) }));
  }

  render({ plane }) {
    this.sliders.forEach((slider, index) => { slider.value = String(plane[index]); });
    at(this.spot, plane);
  }
}

const onPad = ([u, v]) => [(u + 0.5) / 2, 1 - (v + 0.5) / 2];
const fromPad = (x, y) => [2 * x - 0.5, 2 * (1 - y) - 0.5].map((each) => Number(Math.max(-0.5, Math.min(1.5, each)).toFixed(2)));

function at(element, place) {
  const [x, y] = onPad(place);
  element.style.left = `${100 * x}%`;
  element.style.top = `${100 * y}%`;
  return element;
}
