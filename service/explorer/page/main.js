/** The explorer. Everything on the screen follows from one state. */

import { LatestRequest, RequestError, busyDuring, fetchJson } from "./api.js";
import { CompareView, referenceOf } from "./compare.js";
import { DirectionSliders } from "./directions.js";
import { byId, create } from "./dom.js";
import { Gallery } from "./gallery.js";
import { MetricsView } from "./metrics.js";
import { MAX_SELECTED } from "./names.js";
import { Notice } from "./notice.js";
import { galleryRequest, seedsBody } from "./requests.js";
import { Selection } from "./selection.js";
import { can, classNames, fitToModel, fromFragment, initialState, maxFirst, modeFor, ownFields, parseSeed, toFragment } from "./state.js";
import { Viewer } from "./viewer.js";
import { viewOf } from "./views.js";

const GALLERY_FIELDS = ["first", "locks", "label", "truncation", "amounts", "fields"];
const VIEWER_FIELDS = ["selection", "focus", "mode", "loop", "smooth", "plane", "truncation", "amounts", "fields"];
const NOT_SERVED = ["unknown_model", "version_not_served"];
const LINK_UPDATES_PER_SECOND = 4;
/** Browsers refuse to change the address more often. */

let models = [];
let choices = 0;
let reloading = false;
let linkTimer = null;
let pictures = [];
/** Files in base64, for a model without seeds. */
const outdated = { gallery: false, viewer: false };
const notice = new Notice();

const app = {
  state: fromFragment(location.hash),
  model: null,
  versions: [], // all that are in the catalog
  view: null,
  notice,
  change,
  fail,
  deselect,
  reroll,
  showSelected,
  setSelection,
  updateLink,
  link: () => `${location.href.split("#")[0]}#${toFragment(app.state, app.model?.version)}`,
};

const gallery = new Gallery({ select, lock });
const selection = new Selection(app);
const viewer = new Viewer(app, selection);
const sliders = new DirectionSliders(app);
const compare = new CompareView(app);
const metrics = new MetricsView(app);
const latestGallery = new LatestRequest(
  byId("tiles"),
  async ({ request }) => (await fetchJson(request.path, request)).samples,
  (samples, { state, model, isFirst }) => {
    if (model !== app.model) return; // another model was chosen meanwhile
    notice.clearError();
    gallery.show(samples, app.state);
    if (state.truncation === 1 && !Object.keys(state.amounts).length && !Object.keys(state.fields).length && can(model, "seed")) selection.remember(samples);
    if (isFirst && !app.state.selection.length) select(samples[0]);
    selection.render();
  },
  fail,
);

/** Change the state, fetch the samples that differ, and draw the controls. `dragging`: a slider is still held. */
function change(patch, dragging = false) {
  const before = app.state;
  app.state = { ...before, ...patch };
  notice.clearHint();
  if ("view" in patch || "first" in patch) history.pushState(null, "", app.link()); // the browser's Back undoes these
  const changed = (names) => names.some((name) => name in patch && patch[name] !== before[name]);
  if (changed(VIEWER_FIELDS)) {
    outdated.viewer = dragging;
    viewer.fetch(dragging);
  } else if (outdated.viewer && !dragging) {
    outdated.viewer = false;
    viewer.fetch(false);
  }
  if (changed(GALLERY_FIELDS) && dragging) outdated.gallery = true;
  else if (changed(GALLERY_FIELDS) || (outdated.gallery && !dragging)) fetchGallery();
  render();
}

function render() {
  const { view } = app.state;
  byId("explore").hidden = view !== "explore";
  compare.show(view === "compare");
  metrics.show(view === "metrics");
  for (const button of document.querySelectorAll(".view")) button.setAttribute("aria-pressed", String(button.dataset.view === view));
  if (!app.model) return;
  gallery.mark(app.state);
  viewer.render();
  sliders.render();
  updateLink();
}

/** Write the state into the address, after a moment. */
function updateLink() {
  linkTimer ??= setTimeout(() => {
    linkTimer = null;
    if (app.model) history.replaceState(null, "", app.link());
  }, 1000 / LINK_UPDATES_PER_SECOND);
}

/** `isFirst`: the model was just chosen; its first sample is selected, so that the viewer is not empty. */
function fetchGallery(isFirst = false) {
  outdated.gallery = false;
  const { state, model } = app;
  if (!can(model, "seed") && !pictures.length) return;
  latestGallery.want({ request: galleryRequest(state, model, gallery.seeds(state), pictures), state, model, isFirst });
}

/** Add a sample to the selection, or remove it if it is there. */
function select(sample) {
  if (!can(app.model, "seed")) {
    const { path, body } = galleryRequest(app.state, app.model, [], ["(your picture in base64)"]);
    viewer.showOne(sample, { path, body });
    return;
  }
  const added = { seed: sample.seed, label: sample.label ?? null };
  const { selection: selected } = app.state;
  const index = selected.findIndex(({ seed, label }) => seed === added.seed && label === added.label);
  if (index >= 0) {
    deselect(index);
  } else if (selected.length === MAX_SELECTED) {
    notice.hint(`At most ${MAX_SELECTED} samples can be selected. Remove one first.`);
  } else {
    viewer.stop();
    const mode = selected.length === 1 ? "interpolate" : app.state.mode;
    change({ selection: [...selected, added], focus: selected.length, mode, frame: 0 });
  }
}

function deselect(index) {
  viewer.stop();
  const left = app.state.selection.filter((_, each) => each !== index);
  const focus = app.state.focus - (index < app.state.focus || app.state.focus === left.length);
  change({ selection: left, focus: Math.max(0, focus), mode: modeFor(left, app.state.mode), frame: 0 });
}

function showSelected(focus) {
  viewer.stop();
  change({ focus, mode: "sample" });
}

/** Replace the selection by the same samples with their classes: nothing has to be fetched. */
function setSelection(selected) {
  app.state = { ...app.state, selection: selected };
  render();
}

function reroll() {
  change({ first: Math.floor(Math.random() * (maxFirst(app.view.tiles) + 1)) });
}

function lock(tile, seed) {
  const locks = { ...app.state.locks };
  if (tile in locks) delete locks[tile];
  else locks[tile] = seed;
  change({ locks });
}

/** Show an error. If the model is no longer served, load the list of models again. */
function fail(problem) {
  if (!NOT_SERVED.includes(problem.code) || reloading) {
    notice.error(problem);
    return;
  }
  reloading = true;
  withRetries(() => load(app.state)).finally(() => { reloading = false; });
}

/** Show another model, after its directions were fetched. If another one is chosen meanwhile, show only that. */
async function choose(model, state) {
  choices += 1;
  const choice = choices;
  const [{ directions }, surface] = await Promise.all([
    model.directions_version ? fetchJson(`/models/${referenceOf(model)}/directions`) : { directions: [] },
    model.surface ? fetchJson(`/models/${referenceOf(model)}/surface`) : null,
  ]);
  if (choice !== choices) return;
  viewer.stop();
  app.model = model;
  app.view = viewOf(model, surface);
  app.state = structuredClone(state);
  notice.show(fitToModel(app.state, model, directions, app.view.tiles).join(" "));
  byId("model").value = model.name;
  byId("model").title = model.card.description;
  showVersions(model);
  byId("explore").inert = false;
  showClasses(classNames(model));
  showFields(model);
  byId("legend").hidden = !surface;
  gallery.clear(app.view);
  selection.clear();
  viewer.clear();
  sliders.clear(directions);
  render();
  fetchGallery(true);
  viewer.fetch(false);
}

/** Offer the names, in groups if there are runs. */
function showNames() {
  const groups = { Models: [], Runs: [], "Unfinished runs": [] };
  for (const { name, run } of app.versions) {
    const group = groups[run === null ? "Models" : run === "finished" ? "Runs" : "Unfinished runs"];
    if (!group.includes(name)) group.push(name);
  }
  const options = (names) => names.map((name) => create("option", { value: name }, name));
  const filled = Object.entries(groups).filter(([, names]) => names.length);
  byId("model").replaceChildren(...(filled.length === 1 ? options(filled[0][1]) : filled.map(([label, names]) => create("optgroup", { label }, ...options(names)))));
  byId("model").disabled = false;
}

function showVersions(model) {
  const versions = app.versions.filter(({ name }) => name === model.name);
  byId("version").replaceChildren(...versions.map(({ version, current }) => create("option", { value: version }, current && versions.length > 1 ? `${version} · current` : version)));
  byId("version").value = model.version;
  byId("version").disabled = versions.length < 2;
}

function showClasses(names) {
  byId("class-picker").hidden = !names.length;
  byId("class").replaceChildren(create("option", { value: "" }, "any"), ...names.map((name) => create("option", { value: name }, name)));
  byId("class").value = app.state.label ?? "";
}

/** Show the inputs that the model has: texts such as a prompt, and pictures in the place of seeds. */
function showFields(model) {
  pictures = [];
  byId("pictures").value = "";
  byId("pictures-picker").hidden = !can(model, "translate");
  byId("by-seed").hidden = byId("reroll").hidden = !can(model, "seed");
  byId("texts").replaceChildren(...ownFields(model, "string").map(([name]) => create("label", {}, `${name} `, create("input", {
    value: app.state.fields[name] ?? "",
    change: ({ target }) => {
      const fields = { ...app.state.fields, [name]: target.value };
      if (!target.value.trim()) delete fields[name];
      change({ fields });
    },
  }))));
}

async function showPictures(files) {
  pictures = await Promise.all([...files].slice(0, app.model.limits.max_samples).map(base64Of));
  gallery.clear({ ...app.view, tiles: pictures.length });
  gallery.view = app.view;
  fetchGallery(true);
}

/** A file in base64. */
function base64Of(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result.split(",")[1] ?? ""));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}

/** Fetch the list of models and show the one that `state` names, else the default. */
async function load(state) {
  const listed = await fetchJson("/models");
  ({ models, versions: app.versions } = listed);
  if (!app.versions.length) {
    notice.show(`No model is served. ${listed.failures.map(({ file, error }) => `${file}: ${error}.`).join(" ")}`);
    return;
  }
  showNames();
  compare.setVersions(app.versions);
  const wanted = state.model ?? listed.default;
  const pinned = app.versions.find(({ name, also, version }) => version === state.version && (name === wanted || also.includes(wanted)));
  const meant = (wantedName) => app.versions.find(({ name, current }) => name === wantedName && current) ?? app.versions.find(({ name }) => name === wantedName);
  const shown = pinned ?? meant(wanted) ?? meant(listed.default) ?? app.versions[0];
  await choose(await modelOf(referenceOf(shown)), state);
  if (wanted && !pinned && shown.name !== wanted) notice.show(`There is no model ${wanted}. This is ${shown.name}.`);
}

/** What the service says about `name` or `name@version`. What is in the list need not be asked for again. */
async function modelOf(reference) {
  return models.find((model) => [model.name, referenceOf(model)].includes(reference)) ?? fetchJson(`/models/${reference}`);
}

/** Do `work`. If it is refused, show why, and try again if that may help. */
async function withRetries(work) {
  try {
    await work();
  } catch (problem) {
    if (!(problem instanceof RequestError)) throw problem;
    fail(problem);
    if (problem.retryAfter !== null) setTimeout(() => withRetries(work), 1000 * problem.retryAfter);
  }
}

async function selectSeed(seed) {
  const { model } = app;
  const { samples } = await fetchJson("/generate", { body: seedsBody(model, [{ seed, label: app.state.label }]) });
  if (model !== app.model) return;
  notice.clearError();
  selection.remember(samples);
  select(samples[0]);
}

function listen() {
  byId("model").addEventListener("change", (event) => {
    const { view, against } = app.state;
    busyDuring(byId("viewer"), withRetries(async () => choose(await modelOf(event.target.value), { ...initialState(), view, against })));
  });
  byId("version").addEventListener("change", (event) => {
    const reference = `${app.model.name}@${event.target.value}`;
    busyDuring(byId("viewer"), withRetries(async () => choose(await modelOf(reference), { ...app.state, version: null })));
  });
  byId("pictures").addEventListener("change", ({ target }) => { if (target.files.length) showPictures(target.files); });
  byId("class").addEventListener("change", (event) => change({ label: event.target.value || null }));
  byId("reroll").addEventListener("click", reroll);
  byId("by-seed").addEventListener("submit", (event) => {
    event.preventDefault();
    const seed = parseSeed(byId("seed").value);
    if (seed === null) notice.hint("A seed is a whole number from 0 to 4294967295.");
    else busyDuring(byId("viewer"), withRetries(() => selectSeed(seed)));
  });
  byId("skip").addEventListener("click", (event) => { event.preventDefault(); byId("viewer").focus(); });
  for (const button of document.querySelectorAll(".view")) button.addEventListener("click", () => change({ view: button.dataset.view }));
  addEventListener("popstate", () => {
    if (location.href !== app.link()) withRetries(() => load(fromFragment(location.hash)));
  });
  addEventListener("resize", () => app.view?.repaint());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => app.view?.repaint());
  // On a phone the sample floats above the sliders while these are in sight.
  new IntersectionObserver(([panel]) => byId("viewer").classList.toggle("floating", panel.isIntersecting)).observe(byId("directions"));
}

listen();
gallery.clear({ tiles: 40 });
render();
withRetries(() => load(app.state));
