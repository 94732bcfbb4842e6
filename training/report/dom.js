"use strict";

// Elements, texts and numbers. Text from the run becomes text nodes and attributes, never markup.

const byId = (id) => document.getElementById(id);
const run = JSON.parse(byId("content").textContent);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

const html = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const formatCount = (value) => (isNumber(value) ? value.toLocaleString("en-GB") : String(value));
const toText = (value) => (typeof value === "object" && value !== null ? JSON.stringify(value) : String(value));

function formatNumber(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return value.toExponential(1).replaceAll("-", "−");
  if (size >= 1000) return Math.round(value).toLocaleString("en-GB").replace("-", "−");
  return String(Number(value.toPrecision(3))).replace("-", "−");
}

function formatDuration(seconds) {
  if (seconds < 60) return `${Number(seconds.toPrecision(2))} s`;
  const whole = Math.round(seconds);
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = units.findIndex(([size]) => whole >= size);
  return units
    .slice(first, first + 2)
    .map(([size, unit], index) => [Math.floor((index ? whole % units[first][0] : whole) / size), unit])
    .filter(([amount, unit], index) => amount || !index)
    .map(([amount, unit]) => `${amount} ${unit}`)
    .join(" ");
}

const infoOf = (name) =>
  run.metric_info[name] || { title: name, meaning: "", better: null, range: null, reference: null, part_of: null };
const titleOf = (name) => {
  const { title, part_of: whole } = infoOf(name);
  return whole ? `${infoOf(whole).title} of ${title}` : title;
};

/** Return the value below which the fraction `q` of `values` lies; 0 without values. */
function quantile(values, q) {
  const sorted = Float64Array.from(values).sort();
  return sorted.length ? sorted[Math.round(q * (sorted.length - 1))] : 0;
}

/** Return the index of the item with the nearest step. `items` are sorted by step. */
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
