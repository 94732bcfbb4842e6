/** The explorer: one state, from which everything on the screen follows. */

import { Newest, Refused, askJson, working } from "./api.js";
import { byId, make } from "./dom.js";
import { Pulse } from "./pulse.js";
import { Push } from "./push.js";
import { ofSeed, ofWall } from "./requests.js";
import { Stage } from "./stage.js";
import { MOST_PICKS, WAYS, blank, drawFirst, fromFragment, seedOf, toFragment } from "./state.js";
import { viewOf } from "./views.js";
import { Wall } from "./wall.js";

const OF_WALL = ["first", "locks", "label", "truncation", "push"];
const OF_STAGE = ["picks", "focus", "way", "loop", "smooth", "plane", "truncation", "push"];
const PICKS_FOR = [0, 2, 3];

let models = [];
let written = null;
let failing = false;

const app = {
  state: fromFragment(location.hash),
  model: null,
  view: null,
  change,
  fail,
  fine,
  putBack,
  made: () => stage.made,
  link: () => `${location.href.split("#")[0]}#${toFragment(app.state, app.model?.version)}`,
};

const wall = new Wall({ pick, lock });
const stage = new Stage(app);
const push = new Push(app);
const pulse = new Pulse(app);
const newestWall = new Newest(
  byId("tiles"),
  async (request) => ({ samples: (await askJson(request.path, request)).samples, model: app.model }),
  ({ samples, model }) => {
    if (model !== app.model) return;
    fine();
    wall.show(samples, app.state);
    if (!app.state.picks.length) pick(samples[0]);
  },
  fail,
);

/** Change the state, ask for what has to be made anew, draw the controls. `moving`: a slider is still held. */
function change(patch, moving = false) {
  const before = app.state;
  app.state = { ...before, ...patch };
  const changed = (names) => names.some((name) => name in patch && patch[name] !== before[name]);
  if (changed(OF_STAGE) || (!moving && app.stageIsLate)) {
    app.stageIsLate = moving;
    stage.fetch(moving);
  }
  if (changed(OF_WALL) || (!moving && app.wallIsLate)) {
    app.wallIsLate = moving;
    if (!moving) fetchWall();
  }
  render();
}

function render() {
  wall.mark(app.state);
  stage.render();
  push.render();
  const exploring = app.state.view === "explore";
  byId("explore").hidden = !exploring;
  for (const button of document.querySelectorAll(".view")) button.setAttribute("aria-pressed", String(button.dataset.view === app.state.view));
  clearTimeout(written);
  written = setTimeout(() => history.replaceState(null, "", app.link()), 250); // browsers refuse more than a few a second
}

function fetchWall() {
  newestWall.want(ofWall(app.state, app.model, wall.seeds(app.state)));
}

function pick(sample) {
  const chosen = { seed: sample.seed, label: sample.label ?? null };
  const { picks } = app.state;
  const place = picks.findIndex(({ seed, label }) => seed === chosen.seed && label === chosen.label);
  if (place >= 0) {
    putBack(place);
    return;
  }
  if (picks.length === MOST_PICKS) {
    say(`${MOST_PICKS} samples are picked, and that is the most. Put one back first.`);
    return;
  }
  working(byId("stage"), rememberAsItIs([chosen]));
  const way = picks.length === 1 && app.state.way === "sample" ? "travel" : app.state.way;
  stage.stop();
  change({ picks: [...picks, chosen], focus: picks.length, way, at: 0 });
}

function putBack(index) {
  const picks = app.state.picks.filter((_, each) => each !== index);
  const way = picks.length < PICKS_FOR[WAYS.indexOf(app.state.way)] ? WAYS[WAYS.indexOf(app.state.way) - 1] : app.state.way;
  stage.stop();
  change({ picks, focus: Math.max(0, Math.min(app.state.focus, picks.length - 1)), way: picks.length < 2 ? "sample" : way, at: 0 });
}

/** The tray shows picks as they are, without truncation and directions. */
async function rememberAsItIs(picks) {
  const { model } = app;
  for (const chosen of picks.filter((each) => !stage.knows(each))) {
    try {
      const { samples } = await askJson("/generate", ofSeed(model, chosen.seed, chosen.label));
      if (model !== app.model) return;
      chosen.label ??= samples[0].label ?? null; // a link that was written by hand may leave it open
      stage.know(samples);
    } catch (problem) {
      if (!(problem instanceof Refused)) throw problem;
      fail(problem);
    }
  }
  stage.render();
  wall.mark(app.state);
}

function lock(tile, seed) {
  const locks = { ...app.state.locks };
  if (tile in locks) delete locks[tile];
  else locks[tile] = seed;
  change({ locks });
}

/** Say what has failed, in words, until something goes well again. */
function fail(problem) {
  say(problem.message);
  failing = true;
}

function fine() {
  if (failing) say("");
}

/** Say something until there is something else to say. */
function say(words) {
  failing = false;
  const notice = byId("notice");
  if (notice.textContent !== words) notice.textContent = words;
  notice.hidden = !words;
}

async function choose(model, state) {
  app.model = model;
  const [found, surface] = await Promise.all([
    model.directions_version ? askJson(`/models/${model.name}/directions`) : { directions: [] },
    model.surface ? askJson(`/models/${model.name}/surface`) : null,
  ]);
  app.view = viewOf(model, surface);
  app.state = state;
  say(settle(state, model, found.directions).join(" "));
  byId("model").value = model.name;
  byId("version").textContent = model.version;
  byId("version").title = model.card.description;
  classes(model);
  wall.clear(app.view);
  stage.clear();
  push.clear(found.directions);
  render();
  fetchWall();
  stage.fetch();
  await working(byId("stage"), rememberAsItIs(state.picks));
}

/** Make a state from a link fit the model as it is served; gives what will look otherwise, in words. */
function settle(state, model, directions) {
  const warnings = [];
  if (state.version && state.version !== model.version) {
    warnings.push(`This link was made with version ${state.version} of ${model.name}; ${model.version} is served now, so its samples are others.`);
  }
  if (state.directions && state.directions !== model.directions_version) {
    warnings.push("The directions of this link were found anew since, so they push otherwise.");
  }
  const known = new Map(directions.map(({ name, range }) => [name, range]));
  state.push = Object.fromEntries(Object.entries(state.push).filter(([name]) => known.has(name))
    .map(([name, amount]) => [name, Math.max(-known.get(name), Math.min(known.get(name), amount))]));
  Object.assign(state, { model: model.name, version: model.version, directions: model.directions_version });
  const names = classNames(model);
  if (!names.includes(state.label)) state.label = null;
  for (const each of state.picks) if (!names.includes(each.label)) each.label = null;
  if (state.picks.length < PICKS_FOR[WAYS.indexOf(state.way)]) state.way = "sample";
  return warnings;
}

const classNames = ({ card }) => (card.spec.condition.kind === "classes" ? card.spec.condition.names : []);

function classes(model) {
  const names = classNames(model);
  byId("class-picker").hidden = !names.length;
  byId("class").replaceChildren(make("option", { value: "" }, "any"), ...names.map((name) => make("option", { value: name }, name)));
  byId("class").value = app.state.label ?? "";
}

async function begin() {
  const listed = await askJson("/models");
  models = listed.models;
  const failures = listed.failures.map(({ file, error }) => `${file}: ${error}.`).join(" ");
  if (!models.length) {
    say(`No model is served. ${failures}`);
    return;
  }
  byId("model").replaceChildren(...models.map(({ name }) => make("option", { value: name }, name)));
  byId("model").disabled = false;
  const wanted = app.state.model ?? listed.default;
  const model = models.find(({ name }) => name === wanted) ?? models[0];
  await choose(model, app.state);
  if (wanted !== model.name) say(`There is no model ${wanted} here; this is ${model.name}.`);
}

function listen() {
  byId("model").addEventListener("change", (event) => {
    stage.stop();
    choose(models.find(({ name }) => name === event.target.value), { ...blank(), view: app.state.view }).catch(failed);
  });
  byId("class").addEventListener("change", (event) => change({ label: event.target.value || null }));
  byId("reroll").addEventListener("click", () => change({ first: drawFirst(app.view.tiles) }));
  byId("by-seed").addEventListener("submit", (event) => {
    event.preventDefault();
    const seed = seedOf(byId("seed").value);
    if (seed === null) say("A seed is a whole number from 0 to 4294967295.");
    else working(byId("stage"), bySeed(seed)).catch(failed);
  });
  for (const button of document.querySelectorAll(".view")) {
    button.addEventListener("click", () => {
      change({ view: button.dataset.view });
      pulse.show(button.dataset.view === "pulse");
    });
  }
  addEventListener("hashchange", () => {
    app.state = fromFragment(location.hash);
    begin().catch(failed);
  });
}

async function bySeed(seed) {
  const { samples } = await askJson("/generate", ofSeed(app.model, seed, app.state.label));
  stage.know(samples);
  pick(samples[0]);
}

function failed(problem) {
  if (!(problem instanceof Refused)) throw problem;
  fail(problem);
  if (problem.wait !== null && !app.view) setTimeout(() => begin().catch(failed), 1000 * problem.wait);
}

listen();
pulse.show(app.state.view === "pulse");
begin().catch(failed);
