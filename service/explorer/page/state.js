/** The state of the page: one plain object, which a link can carry. */

import { MAX_SELECTED } from "./names.js";

const MAX_SEED = 2 ** 32 - 1;
const MIN_SELECTED = { sample: 1, interpolate: 2, plane: 3 };
/** The viewer's modes, and how many selected samples each needs. */
const LINK_VALUES = { interpolate: "travel", metrics: "pulse" };
/** What links call these values. The format of links does not change, so that old ones keep working. */

const linkValue = (value) => LINK_VALUES[value] ?? value;

/** Whether `selection` has enough samples for `mode`. */
export const hasEnough = (selection, mode) => selection.length >= MIN_SELECTED[mode];

/** `mode`, or the last mode that `selection` has enough samples for. */
export function modeFor(selection, mode) {
  const possible = Object.keys(MIN_SELECTED).filter((each) => each === "sample" || hasEnough(selection, each));
  return possible.includes(mode) ? mode : possible.at(-1);
}

export function initialState() {
  return {
    model: null, // name
    version: null, // of the model, from a link
    first: 0, // seed of the first tile
    locks: {}, // tile → seed
    label: null, // class of the gallery
    selection: [], // {seed, label}
    focus: 0, // which selected sample mode "sample" shows
    mode: "sample", // of the viewer
    frame: 0, // of the interpolation
    loop: false,
    smooth: false,
    plane: [0.33, 0.33], // weights of B and C
    truncation: 1,
    amounts: {}, // direction → amount
    fields: {}, // of the model: field → value, such as a prompt
    directionsVersion: null,
    view: "explore",
    against: null, // name@version, in the view that compares
  };
}

/** State → the fragment of a link. Values that are as at first are left out. */
export function toFragment(state, version) {
  const initial = initialState();
  const fields = new URLSearchParams();
  const put = (name, value, omitted) => { if (String(value) !== String(omitted)) fields.set(name, value); };
  put("model", version ? `${state.model}@${version}` : state.model, null);
  put("first", state.first, initial.first);
  put("lock", Object.entries(state.locks).map((pair) => pair.join(":")).join(","), "");
  put("class", state.label ?? "", "");
  put("pick", state.selection.map(({ seed, label }) => (label === null ? seed : `${seed}:${encodeURIComponent(label)}`)).join(","), "");
  put("focus", state.focus, initial.focus);
  put("way", linkValue(state.mode), initial.mode);
  if (state.mode === "interpolate") put("at", state.frame, initial.frame);
  put("loop", state.loop, initial.loop);
  put("smooth", state.smooth, initial.smooth);
  if (state.mode === "plane") put("plane", state.plane.join(","), null);
  put("truncation", state.truncation, initial.truncation);
  put("push", Object.entries(state.amounts).map(([name, amount]) => `${encodeURIComponent(name)}:${amount}`).join(","), "");
  put("fields", JSON.stringify(state.fields), "{}");
  if (Object.keys(state.amounts).length) put("directions", state.directionsVersion ?? "", "");
  put("view", linkValue(state.view), initial.view);
  put("against", state.against ?? "", "");
  return fields.toString();
}

/** The fragment of a link → state. Values that cannot be read are as at first. */
export function fromFragment(fragment) {
  const state = initialState();
  const fields = new URLSearchParams(fragment.replace(/^#/, ""));
  const text = (name) => fields.get(name) ?? "";
  const oneOf = (name, values) => values.find((value) => text(name) === linkValue(value)) ?? values[0];
  [state.model, state.version = null] = text("model").split("@");
  state.model ||= null;
  state.first = parseSeed(text("first")) ?? 0;
  for (const [tile, seed] of pairs(text("lock"))) {
    if (/^\d{1,3}$/.test(tile) && parseSeed(seed) !== null) state.locks[tile] = parseSeed(seed);
  }
  state.label = text("class") || null;
  state.selection = pairs(text("pick"))
    .map(([seed, label]) => ({ seed: parseSeed(seed), label: label === undefined ? null : decoded(label) }))
    .filter(({ seed }) => seed !== null)
    .slice(0, MAX_SELECTED);
  state.focus = Math.min(parseCount(text("focus")), Math.max(state.selection.length - 1, 0));
  state.mode = modeFor(state.selection, oneOf("way", Object.keys(MIN_SELECTED)));
  state.frame = parseCount(text("at"));
  state.loop = text("loop") === "true";
  state.smooth = text("smooth") === "true";
  const plane = text("plane").split(",").map(Number);
  if (plane.length === 2 && plane.every((each) => each >= -0.5 && each <= 1.5)) state.plane = plane;
  const truncation = Number(text("truncation"));
  if (truncation > 0 && truncation <= 1) state.truncation = truncation;
  for (const [name, amount] of pairs(text("push"))) {
    if (amount && Number.isFinite(Number(amount))) state.amounts[decoded(name)] = Number(amount);
  }
  state.fields = parseFields(text("fields"));
  state.directionsVersion = text("directions") || null;
  state.view = oneOf("view", ["explore", "compare", "metrics"]);
  state.against = text("against") || null;
  return state;
}

/** Change `state` to what `model` can show in `tiles` tiles. Gives warnings about what a link's samples differ in. */
export function fitToModel(state, model, directions, tiles) {
  const warnings = [];
  if (state.version && state.version !== model.version) {
    warnings.push(`The link is for version ${state.version} of ${model.name}. Version ${model.version} is served now, so the samples differ.`);
  }
  if (state.directionsVersion && state.directionsVersion !== model.directions_version) {
    warnings.push("The directions were found anew since the link was made, so the samples differ.");
  }
  const before = toFragment(state);
  const ranges = new Map(directions.map(({ name, range }) => [name, range]));
  state.amounts = Object.fromEntries(Object.entries(state.amounts).filter(([name]) => ranges.has(name))
    .map(([name, amount]) => [name, Math.max(-ranges.get(name), Math.min(ranges.get(name), amount))]));
  const own = new Map([...ownFields(model, "number"), ...ownFields(model, "string")]);
  state.fields = Object.fromEntries(Object.entries(state.fields).filter(([name, value]) => own.has(name) && typeof value === own.get(name).type));
  if (!model.fields.truncation) state.truncation = 1;
  const classes = classNames(model);
  if (!classes.includes(state.label)) state.label = null;
  for (const each of state.selection) if (!classes.includes(each.label)) each.label = null;
  state.first = Math.min(state.first, maxFirst(tiles));
  state.locks = Object.fromEntries(Object.entries(state.locks).filter(([tile]) => tile < tiles));
  if (toFragment(state) !== before) warnings.push("Settings that this model does not have were left out.");
  Object.assign(state, { model: model.name, version: model.version, directionsVersion: model.directions_version });
  return warnings;
}

/** A model's class names; none of a model without classes. */
export const classNames = ({ fields }) => fields.label?.anyOf?.[0].enum ?? [];

/** Whether something can be done with a model's inputs. */
export const can = (model, operation) => model.operations.includes(operation);

/** The fields of a model that the page has a control for, besides truncation: numbers within limits, and texts. */
export function ownFields(model, type) {
  return Object.entries(model.fields).filter(([name, schema]) => name !== "truncation" && schema.type === type);
}

/** Text → a seed, or null. */
export function parseSeed(text) {
  const seed = /^\d{1,10}$/.test(text.trim()) ? Number(text) : null;
  return seed !== null && seed <= MAX_SEED ? seed : null;
}

/** The largest seed that the first of so many tiles may have. */
export const maxFirst = (tiles) => MAX_SEED + 1 - tiles;

function parseFields(text) {
  try {
    const fields = JSON.parse(text || "{}");
    return fields && typeof fields === "object" && !Array.isArray(fields) ? fields : {};
  } catch {
    return {};
  }
}

const parseCount = (text) => (/^\d{1,6}$/.test(text) ? Number(text) : 0);
const pairs = (text) => text.split(",").filter(Boolean).map((each) => each.split(":"));

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
