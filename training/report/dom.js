"use strict";

// Elements, words and numbers. Text from the run becomes text nodes and attributes, never markup.

const byId = (id) => document.getElementById(id);
const run = JSON.parse(byId("content").textContent);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const count = (value) => (isNumber(value) ? value.toLocaleString("en-GB") : String(value));
const plain = (value) => (typeof value === "object" && value !== null ? JSON.stringify(value) : String(value));

function figure(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return value.toExponential(1).replaceAll("-", "−");
  if (size >= 1000) return Math.round(value).toLocaleString("en-GB").replace("-", "−");
  return String(Number(value.toPrecision(3))).replace("-", "−");
}

function duration(seconds) {
  if (seconds < 60) return `${Number(seconds.toPrecision(2))} s`;
  const whole = Math.round(seconds);
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => whole >= size);
  return parts
    .slice(first, first + 2)
    .map(([size, unit], place) => [Math.floor((place ? whole % parts[first][0] : whole) / size), unit])
    .filter(([amount, unit], place) => amount || !place)
    .map(([amount, unit]) => `${amount} ${unit}`)
    .join(" ");
}

const wordsFor = (name) => run.words[name] || { title: name, meaning: "", better: null, span: null, mark: null };
const titleOf = (name) => {
  const { title, part_of: whole } = wordsFor(name);
  return whole ? `${wordsFor(whole).title} of ${title}` : title;
};

/** Index of the item whose step is nearest; items are in the order of their steps. */
function nearestTo(items, step) {
  let low = 0;
  let high = items.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (items[middle].step <= step) low = middle;
    else high = middle;
  }
  return step - items[low].step <= items[high].step - step ? low : high;
}
