/** Helpers for elements. */

export const byId = (id) => document.getElementById(id);

/** An element with attributes (functions are listeners, by the event's name) and children (nodes or text). */
export function create(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** A group of buttons of which one is pressed. */
export class ButtonGroup {
  #buttons;

  /** `texts`: value → text of its button. `choose(value)` is called by a click. */
  constructor(container, texts, choose) {
    this.#buttons = Object.entries(texts).map(([value, text]) => create("button", {
      type: "button", "data-value": value,
      click: ({ currentTarget }) => { if (!currentTarget.hasAttribute("aria-disabled")) choose(value); },
    }, text));
    container.replaceChildren(...this.#buttons);
  }

  /** Press the button of `value`, and disable those that are not `enabled(value)`. */
  show(value, enabled = () => true) {
    for (const button of this.#buttons) {
      button.setAttribute("aria-pressed", String(button.dataset.value === value));
      if (enabled(button.dataset.value)) button.removeAttribute("aria-disabled");
      else button.setAttribute("aria-disabled", "true");
    }
  }
}

/**
 * Let arrow keys move the focus among the items in `container`; the Tab key stops at one of them.
 * Gives a function to call after the items were replaced.
 */
export function arrowNavigation(container, selector) {
  const items = () => [...container.querySelectorAll(selector)];
  const makeTabStop = (item) => {
    for (const each of items()) each.tabIndex = each === item ? 0 : -1;
  };
  container.addEventListener("focusin", (event) => {
    const item = event.target.closest(selector);
    if (item) makeTabStop(item);
  });
  container.addEventListener("keydown", (event) => {
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const from = event.target.closest(selector);
    if (!direction || !from) return;
    event.preventDefault();
    nearest(from, items(), direction)?.focus();
  });
  return () => {
    const all = items();
    if (all.length && !all.some((item) => item.tabIndex === 0)) makeTabStop(all[0]);
  };
}

/** The item nearest to `from` in the direction [dx, dy]; a distance to the side counts three times. */
function nearest(from, items, [dx, dy]) {
  const center = (item) => {
    const box = item.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const [x, y] = center(from);
  let best = null;
  let shortest = Infinity;
  for (const item of items) {
    const [otherX, otherY] = center(item);
    const ahead = (otherX - x) * dx + (otherY - y) * dy;
    const aside = Math.abs((otherX - x) * dy) + Math.abs((otherY - y) * dx);
    const distance = ahead + 3 * aside;
    if (ahead > 1 && distance < shortest) [best, shortest] = [item, distance];
  }
  return best;
}
