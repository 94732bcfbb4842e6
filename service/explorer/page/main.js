/** The explorer: one state, from which everything on the screen follows. */

import { Newest, Refused, askJson, working } from "./api.js";
import { byId, make } from "./dom.js";
import { Pulse } from "./pulse.js";
import { Push } from "./push.js";
import { ofSeeds, ofWall } from "./requests.js";
import { Stage } from "./stage.js";
import { blank, fromFragment, lastFirst, seedOf, toFragment, wayFor } from "./state.js";
import { Tray } from "./tray.js";
import { viewOf } from "./views.js";
import { Wall } from "./wall.js";
import { MOST_PICKS } from "./words.js";

const OF_WALL = ["first", "locks", "label", "truncation", "push"];
const OF_STAGE = ["picks", "focus", "way", "loop", "smooth", "plane", "truncation", "push"];
const GONE = ["unknown_model", "version_not_served"];
const LINKS_A_SECOND = 4;
/** Browsers refuse to write the address more often. */

let models = [];
let choosing = 0;
let failing = false;
let passing = false;
let renewing = false;
let remembering = null;
const late = { wall: false, stage: false };

const app = {
  state: fromFragment(location.hash),
  model: null,
  view: null,
  change,
  fail,
  fine,
  say,
  putBack,
  showPick,
  settlePicks,
  remember,
  link: () => `${location.href.split("#")[0]}#${toFragment(app.state, app.model?.version)}`,
};

const wall = new Wall({ pick, lock });
const tray = new Tray(app);
const stage = new Stage(app, tray);
const push = new Push(app);
const pulse = new Pulse(app);
const newestWall = new Newest(
  byId("tiles"),
  async ({ request }) => (await askJson(request.path, request)).samples,
  (samples, { state, model, first }) => {
    if (model !== app.model) return; // asked for before another model was chosen
    fine();
    wall.show(samples, app.state);
    if (state.truncation === 1 && !Object.keys(state.push).length) tray.know(samples);
    if (first && !app.state.picks.length) pick(samples[0]);
    tray.render();
  },
  fail,
);

/** Change the state, ask for what has to be made anew, draw the controls. `moving`: a slider is still held. */
function change(patch, moving = false) {
  const before = app.state;
  app.state = { ...before, ...patch };
  if (passing) say("");
  if ("view" in patch || "first" in patch) history.pushState(null, "", app.link()); // what Back leads back from
  const changed = (names) => names.some((name) => name in patch && patch[name] !== before[name]);
  if (changed(OF_STAGE)) {
    late.stage = moving;
    stage.fetch(moving);
  } else if (late.stage && !moving) {
    late.stage = false;
    stage.fetch(false);
  }
  if (changed(OF_WALL) && moving) late.wall = true;
  else if (changed(OF_WALL) || (late.wall && !moving)) fetchWall();
  render();
}

function render() {
  const exploring = app.state.view === "explore";
  byId("explore").hidden = !exploring;
  pulse.show(!exploring);
  for (const button of document.querySelectorAll(".view")) button.setAttribute("aria-pressed", String(button.dataset.view === app.state.view));
  if (!app.model) return;
  wall.mark(app.state);
  stage.render();
  push.render();
  remember();
}

/** Write the state into the address, a little later. */
function remember() {
  remembering ??= setTimeout(() => {
    remembering = null;
    if (app.model) history.replaceState(null, "", app.link());
  }, 1000 / LINKS_A_SECOND);
}

/** `first`: of a model, which picks a sample so that the stage is not empty. */
function fetchWall(first = false) {
  late.wall = false;
  const { state, model } = app;
  newestWall.want({ request: ofWall(state, model, wall.seeds(state)), state, model, first });
}

function pick(sample) {
  const chosen = { seed: sample.seed, label: sample.label ?? null };
  const { picks } = app.state;
  const place = picks.findIndex(({ seed, label }) => seed === chosen.seed && label === chosen.label);
  if (place >= 0) {
    putBack(place);
  } else if (picks.length === MOST_PICKS) {
    hint(`${MOST_PICKS} samples are picked, and that is the most. Remove one first.`);
  } else {
    stage.stop();
    const way = picks.length === 1 ? "travel" : app.state.way;
    change({ picks: [...picks, chosen], focus: picks.length, way, at: 0 });
  }
}

function putBack(index) {
  stage.stop();
  const picks = app.state.picks.filter((_, each) => each !== index);
  const focus = app.state.focus - (index < app.state.focus || app.state.focus === picks.length);
  change({ picks, focus: Math.max(0, focus), way: wayFor(picks, app.state.way), at: 0 });
}

function showPick(focus) {
  stage.stop();
  change({ focus, way: "sample" });
}

/** Picks that a link left open, with their classes: they look as before. */
function settlePicks(picks) {
  app.state = { ...app.state, picks };
  render();
}

function lock(tile, seed) {
  const locks = { ...app.state.locks };
  if (tile in locks) delete locks[tile];
  else locks[tile] = seed;
  change({ locks });
}

/** Say what has failed, in words, until something goes well again; what is served no more is looked for anew. */
function fail(problem) {
  if (GONE.includes(problem.code) && !renewing) {
    renewing = true;
    trying(() => begin(app.state)).finally(() => { renewing = false; });
    return;
  }
  say(problem.message + (problem.wait === null ? "" : ` Trying again in ${problem.wait} s.`));
  failing = true;
}

function fine() {
  if (failing) say("");
}

/** Say something until it is put away, or there is something else to say. */
function say(words) {
  failing = passing = false;
  if (byId("said").textContent !== words) byId("said").textContent = words;
  byId("notice").hidden = !words;
}

/** Say something until the next thing is done. */
function hint(words) {
  say(words);
  passing = true;
}

/** Show another model, once all that is to be known of it is here; what is chosen meanwhile goes first. */
async function choose(model, state) {
  choosing += 1;
  const mine = choosing;
  const [found, surface] = await Promise.all([
    model.directions_version ? askJson(`/models/${model.name}/directions`) : { directions: [] },
    model.surface ? askJson(`/models/${model.name}/surface`) : null,
  ]);
  if (mine !== choosing) return;
  stage.stop();
  app.model = model;
  app.view = viewOf(model, surface);
  app.state = structuredClone(state);
  say(settle(app.state, model, found.directions).join(" "));
  byId("model").value = model.name;
  byId("version").textContent = model.version;
  byId("version").title = model.card.description;
  byId("explore").inert = false;
  classes(model);
  byId("legend").hidden = !surface;
  wall.clear(app.view);
  tray.clear();
  stage.clear();
  push.clear(found.directions);
  render();
  fetchWall(true);
  stage.fetch(false);
}

/** Make a state from a link fit the model as it is served; gives what will look otherwise, in words. */
function settle(state, model, directions) {
  const warnings = [];
  if (state.version && state.version !== model.version) {
    warnings.push(`What was asked for is of version ${state.version} of ${model.name}; ${model.version} is served now, so its samples are others.`);
  }
  if (state.directions && state.directions !== model.directions_version) {
    warnings.push("The directions were found anew since, so they lead elsewhere.");
  }
  const asked = toFragment(state);
  const known = new Map(directions.map(({ name, range }) => [name, range]));
  state.push = Object.fromEntries(Object.entries(state.push).filter(([name]) => known.has(name))
    .map(([name, amount]) => [name, Math.max(-known.get(name), Math.min(known.get(name), amount))]));
  const names = classNames(model);
  if (!names.includes(state.label)) state.label = null;
  for (const each of state.picks) if (!names.includes(each.label)) each.label = null;
  state.first = Math.min(state.first, lastFirst(app.view.tiles));
  state.locks = Object.fromEntries(Object.entries(state.locks).filter(([tile]) => tile < app.view.tiles));
  if (toFragment(state) !== asked) warnings.push("What this model does not know was left out.");
  Object.assign(state, { model: model.name, version: model.version, directions: model.directions_version });
  return warnings;
}

const classNames = ({ card }) => (card.spec.condition.kind === "classes" ? card.spec.condition.names : []);

function classes(model) {
  const names = classNames(model);
  byId("class-picker").hidden = !names.length;
  byId("class").replaceChildren(make("option", { value: "" }, "any"), ...names.map((name) => make("option", { value: name }, name)));
  byId("class").value = app.state.label ?? "";
}

/** Find out what is served, and show what the state wants of it. */
async function begin(state) {
  const listed = await askJson("/models");
  models = listed.models;
  if (!models.length) {
    say(`No model is served. ${listed.failures.map(({ file, error }) => `${file}: ${error}.`).join(" ")}`);
    return;
  }
  byId("model").replaceChildren(...models.map(({ name }) => make("option", { value: name }, name)));
  byId("model").disabled = false;
  const wanted = state.model ?? listed.default;
  const model = models.find(({ name }) => name === wanted) ?? models[0];
  await choose(model, state);
  if (wanted !== model.name) say(`There is no model ${wanted} here; this is ${model.name}.`);
}

/** Do `work`; where it is refused, say so, and do it again where that may help. */
async function trying(work) {
  try {
    await work();
  } catch (problem) {
    if (!(problem instanceof Refused)) throw problem;
    fail(problem);
    if (problem.wait !== null) setTimeout(() => trying(work), 1000 * problem.wait);
  }
}

async function bySeed(seed) {
  const { model } = app;
  const { samples } = await askJson("/generate", ofSeeds(model, [{ seed, label: app.state.label }]));
  if (model !== app.model) return;
  fine();
  tray.know(samples);
  pick(samples[0]);
}

function listen() {
  byId("model").addEventListener("change", (event) => {
    const model = models.find(({ name }) => name === event.target.value);
    trying(() => choose(model, { ...blank(), view: app.state.view }));
  });
  byId("class").addEventListener("change", (event) => change({ label: event.target.value || null }));
  byId("reroll").addEventListener("click", () => change({ first: Math.floor(Math.random() * (lastFirst(app.view.tiles) + 1)) }));
  byId("by-seed").addEventListener("submit", (event) => {
    event.preventDefault();
    const seed = seedOf(byId("seed").value);
    if (seed === null) hint("A seed is a whole number from 0 to 4294967295.");
    else working(byId("stage"), trying(() => bySeed(seed)));
  });
  byId("skip").addEventListener("click", (event) => { event.preventDefault(); byId("stage").focus(); });
  for (const button of document.querySelectorAll(".view")) button.addEventListener("click", () => change({ view: button.dataset.view }));
  byId("hush").addEventListener("click", () => say(""));
  addEventListener("popstate", () => {
    if (location.href !== app.link()) trying(() => begin(fromFragment(location.hash)));
  });
  addEventListener("resize", () => app.view?.repaint());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => app.view?.repaint());
}

new IntersectionObserver(([push]) => byId("stage").classList.toggle("away", push.isIntersecting)).observe(document.querySelector(".push"));
listen();
wall.clear({ tiles: 40 });
render();
trying(() => begin(app.state));
