/** What is on the screen, as one object that fits into a link. */

import { MOST_PICKS } from "./words.js";

const LARGEST_SEED = 2 ** 32 - 1;

/** What the stage can show, and how many picks it takes. */
export const LEAST_PICKS = { sample: 1, travel: 2, plane: 3 };

/** `way`, or where there are too few picks for it the next that they are enough for. */
export function wayFor(picks, way) {
  const possible = Object.keys(LEAST_PICKS).filter((each) => LEAST_PICKS[each] <= Math.max(picks.length, 1));
  return possible.includes(way) ? way : possible.at(-1);
}

export function blank() {
  return {
    model: null, // name
    version: null, // that a link was made with
    first: 0, // seed of the first tile
    locks: {}, // tile → seed
    label: null, // class of the wall
    picks: [], // {seed, label}
    focus: 0, // which pick is shown
    way: "sample",
    at: 0, // frame on the way
    loop: false,
    smooth: false,
    plane: [0.33, 0.33], // toward B and C
    truncation: 1,
    push: {}, // direction → amount
    directions: null, // their version
    view: "explore",
  };
}

/** The state as a link's fragment: only what is not as at rest. */
export function toFragment(state, version) {
  const rest = blank();
  const fields = new URLSearchParams();
  const put = (name, value, resting) => { if (String(value) !== String(resting)) fields.set(name, value); };
  put("model", version ? `${state.model}@${version}` : state.model, null);
  put("first", state.first, rest.first);
  put("lock", Object.entries(state.locks).map((pair) => pair.join(":")).join(","), "");
  put("class", state.label ?? "", "");
  put("pick", state.picks.map(({ seed, label }) => (label === null ? seed : `${seed}:${encodeURIComponent(label)}`)).join(","), "");
  put("focus", state.focus, rest.focus);
  put("way", state.way, rest.way);
  if (state.way === "travel") put("at", state.at, rest.at);
  put("loop", state.loop, rest.loop);
  put("smooth", state.smooth, rest.smooth);
  if (state.way === "plane") put("plane", state.plane.join(","), null);
  put("truncation", state.truncation, rest.truncation);
  put("push", Object.entries(state.push).map(([name, amount]) => `${encodeURIComponent(name)}:${amount}`).join(","), "");
  if (Object.keys(state.push).length) put("directions", state.directions ?? "", "");
  put("view", state.view, rest.view);
  return fields.toString();
}

/** A link's fragment → the state; what cannot be read is as at rest. */
export function fromFragment(fragment) {
  const state = blank();
  const fields = new URLSearchParams(fragment.replace(/^#/, ""));
  const text = (name) => fields.get(name) ?? "";
  [state.model, state.version = null] = text("model").split("@");
  state.model ||= null;
  state.first = seedOf(text("first")) ?? 0;
  for (const [tile, seed] of pairs(text("lock"))) {
    if (/^\d{1,3}$/.test(tile) && seedOf(seed) !== null) state.locks[tile] = seedOf(seed);
  }
  state.label = text("class") || null;
  state.picks = pairs(text("pick"))
    .map(([seed, label]) => ({ seed: seedOf(seed), label: label === undefined ? null : decoded(label) }))
    .filter(({ seed }) => seed !== null)
    .slice(0, MOST_PICKS);
  state.focus = Math.min(whole(text("focus")), Math.max(state.picks.length - 1, 0));
  state.way = wayFor(state.picks, text("way") in LEAST_PICKS ? text("way") : "sample");
  state.at = whole(text("at"));
  state.loop = text("loop") === "true";
  state.smooth = text("smooth") === "true";
  const plane = text("plane").split(",").map(Number);
  if (plane.length === 2 && plane.every((each) => each >= -0.5 && each <= 1.5)) state.plane = plane;
  const truncation = Number(text("truncation"));
  if (truncation > 0 && truncation <= 1) state.truncation = truncation;
  for (const [name, amount] of pairs(text("push"))) {
    if (amount && Number.isFinite(Number(amount))) state.push[decoded(name)] = Number(amount);
  }
  state.directions = text("directions") || null;
  state.view = text("view") === "pulse" ? "pulse" : "explore";
  return state;
}

/** A seed as it is written, or null. */
export function seedOf(text) {
  const seed = /^\d{1,10}$/.test(text.trim()) ? Number(text) : null;
  return seed !== null && seed <= LARGEST_SEED ? seed : null;
}

/** The largest seed that a wall of so many tiles may begin with. */
export const lastFirst = (tiles) => LARGEST_SEED + 1 - tiles;

const whole = (text) => (/^\d{1,6}$/.test(text) ? Number(text) : 0);
const pairs = (text) => text.split(",").filter(Boolean).map((each) => each.split(":"));

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
