/** Small helpers for elements. */

export const byId = (id) => document.getElementById(id);

/** An element with attributes (functions are listeners by event name) and children (nodes or text). */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Buttons of which one is pressed, made once: `texts` by their values. */
export class Choice {
  #buttons;

  constructor(place, texts, choose) {
    this.#buttons = Object.entries(texts).map(([value, text]) => make("button", {
      type: "button", "data-value": value,
      click: ({ currentTarget }) => { if (!currentTarget.hasAttribute("aria-disabled")) choose(value); },
    }, text));
    place.replaceChildren(...this.#buttons);
  }

  /** `possible(value)`: whether it can be chosen now. */
  show(chosen, possible = () => true) {
    for (const button of this.#buttons) {
      const { value } = button.dataset;
      button.setAttribute("aria-pressed", String(value === chosen));
      if (possible(value)) button.removeAttribute("aria-disabled");
      else button.setAttribute("aria-disabled", "true");
    }
  }
}

/** Items among which arrow keys go; one of them is reached by Tab. Gives what to call when there are other items. */
export function arrows(container, selector) {
  const items = () => [...container.querySelectorAll(selector)];
  const reach = (item) => {
    for (const each of items()) each.tabIndex = each === item ? 0 : -1;
  };
  container.addEventListener("focusin", (event) => {
    const item = event.target.closest(selector);
    if (item) reach(item);
  });
  container.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const from = event.target.closest(selector);
    if (!way || !from) return;
    event.preventDefault();
    nearest(from, items(), way)?.focus();
  });
  return () => {
    const all = items();
    if (all.length && !all.some((item) => item.tabIndex === 0)) reach(all[0]);
  };
}

function nearest(from, items, [across, down]) {
  const middle = (item) => {
    const box = item.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const [x, y] = middle(from);
  let best = null;
  let least = Infinity;
  for (const item of items) {
    const [otherX, otherY] = middle(item);
    const along = (otherX - x) * across + (otherY - y) * down;
    const aside = Math.abs((otherX - x) * down) + Math.abs((otherY - y) * across);
    const far = along + 3 * aside;
    if (along > 1 && far < least) [best, least] = [item, far];
  }
  return best;
}
