// What the page says, section by section; each stays hidden where the run has nothing for it.

const facts = run.facts;
const floors = facts.floors || {};
const BETTER = { less: "less is better", more: "more is better", "near real": "like real samples is best" };
const NO_SETTING = "–";
const NEAREST_WIDTH = 336;

const reveal = (id) => {
  byId(id).hidden = false;
  return byId(id);
};

function showHead() {
  byId("name").textContent = plain(facts.name ?? run.folder);
  byId("description").textContent = facts.description ?? "";
  const status = facts.status ?? "unknown";
  byId("status").textContent = status;
  byId("status").dataset.status = status;
  const entries = [
    ["Steps", stepsInWords(run.reached.step, facts.steps)],
    ["Started", facts.started ? dateInWords(facts.started) : ""],
    ["Time", isNumber(run.reached.seconds) ? duration(run.reached.seconds) : ""],
    ["Seed", facts.seed ?? ""],
    ["Data", dataInWords(facts.data)],
    ["Device", facts.hardware],
    ["Generator kept", facts.version ? make("code", {}, plain(facts.version)) : ""],
    ["Best", bestInWords(facts.best)],
  ];
  byId("facts").append(
    ...entries
      .filter(([, value]) => value !== "")
      .map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value instanceof Node ? value : plain(value)))));
}

function stepsInWords(done, planned) {
  if (isNumber(done) && isNumber(planned)) return `${count(done)} of ${count(planned)}`;
  return count(done ?? planned ?? "");
}

function dateInWords(text) {
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? plain(text) : date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

function dataInWords(data) {
  if (!data) return "";
  const size = isNumber(data.size) ? `${count(data.size)} samples` : null;
  return [data.name, size, data.licence].filter(Boolean).join(" · ");
}

function bestInWords(best) {
  if (!best) return "";
  const by = facts.chosen_by ? `${titleOf(facts.chosen_by)} ` : "";
  return make("span", {}, make("code", {}, plain(best.name)), ` at step ${count(best.step)}, ${by}${figure(best.value)}`);
}

function showAlarm() {
  const section = byId("alarm");
  if (facts.error) section.append(warning("Failed", isNumber(run.reached.step) ? run.reached.step : null, plain(facts.error)));
  section.append(...run.alarms.map(({ step, kind, message }) => warning(kind, step, withoutKind(message, kind))));
  if (section.childElementCount) return;
  const calmLine = run.vitals.length
    ? `No alarm in ${run.vitals.length} looks: the samples never lost half of what the data gathers around.`
    : "No alarm: the vitals were not looked at yet.";
  section.append(make("p", { class: run.vitals.length ? "calm looked" : "calm" }, calmLine));
}

function warning(kind, step, message) {
  const [evidence, remedy] = message.split("; try to ");
  return make("article", { class: "warning" },
    make("h2", {}, kind, step === null ? null : make("span", {}, `step ${count(step)}`)),
    make("p", {}, sentence(evidence)),
    remedy ? make("p", {}, make("b", {}, "Try to "), sentence(remedy, false)) : null);
}

const withoutKind = (message, kind) => (message.startsWith(`${kind}: `) ? message.slice(kind.length + 2) : message);
const sentence = (text, capital = true) =>
  (capital ? text.charAt(0).toUpperCase() + text.slice(1) : text) + (/[.!?)]$/.test(text) ? "" : ".");

function showSamples() {
  const missing = run.unreadable.length ? ` Could not be read: ${run.unreadable.join(", ")}.` : "";
  if (!run.frames.length && !missing) return;
  reveal("samples");
  let note = "";
  if (run.frames.length) {
    const stage = run.frames[0].points ? new Plane(run.frames) : new Pictures(run.frames);
    const player = new Player(run.frames, stage);
    whenChosen = (step) => player.seek(step);
    note = stage.note;
  }
  byId("samples-note").textContent = note + missing;
}

/** Names that have a number at least once: of the others there is nothing to draw. */
const namesIn = (moments) => [
  ...new Set(moments.flatMap(({ values }) => Object.keys(values).filter((name) => isNumber(values[name])))),
];
const floorOf = (name) => (isNumber(floors[name]) ? [floors[name], "real samples"] : null);

function chartOf(name, moments) {
  const { title, meaning, span, mark } = wordsFor(name);
  return new Chart({ title, meaning, moments, names: [name], span, mark: mark || floorOf(name), logarithmic: true }).element;
}

function showCurves() {
  const main = byId("main-curves");
  const losses = namesIn(run.losses);
  if (losses.length) main.append(new Chart({ title: "Losses", moments: run.losses, names: losses }).element);
  const figures = namesIn(run.figures).filter((name) => !wordsFor(name).part_of);
  if (figures.includes(facts.chosen_by)) main.append(chartOf(facts.chosen_by, run.figures));
  main.hidden = !main.childElementCount;
  addCharts("vitals", namesIn(run.vitals), run.vitals);
  addCharts("figures", figures.filter((name) => name !== facts.chosen_by), run.figures);
}

function addCharts(id, names, moments) {
  if (names.length) reveal(id).querySelector(".charts").append(...names.map((name) => chartOf(name, moments)));
}

function showJudgement() {
  if (!run.figures.length) return;
  const section = reveal("judgement");
  const last = run.figures[run.figures.length - 1];
  const best = facts.best && run.figures.find((moment) => moment.step === facts.best.step && moment !== last);
  const judged = best ? [last, best] : [last];
  const names = Object.keys(last.values);
  fillTable(section.querySelector("table"), names.filter((name) => !wordsFor(name).part_of), judged, true);
  const parts = names.filter((name) => wordsFor(name).part_of);
  if (parts.length) fillTable(reveal("parts").querySelector("table"), parts, judged, false);
  byId("measured").textContent = [
    facts.measured ? `Measured: ${facts.measured}.` : "",
    Object.keys(floors).length ? "Real samples are as many real ones, judged in the same way: the floor." : "",
  ].join(" ").trim();
}

function fillTable(table, names, judged, explained) {
  const hasFloors = names.some((name) => isNumber(floors[name]));
  const headings = judged.map(({ step }, place) => `${place ? "best, step" : "step"} ${count(step)}`);
  table.tHead.append(
    make("tr", {},
      ...[explained ? "" : "class", ...headings, ...(hasFloors ? ["real samples"] : [])].map((heading, place) =>
        make("th", { scope: "col", class: place ? "number" : "name" }, heading))));
  table.tBodies[0].append(
    ...names.map((name) =>
      make("tr", {},
        make("th", { scope: "row" }, ...nameCell(name, explained)),
        ...judged.map(({ values }) => make("td", { class: "number" }, figure(values[name]), explained ? timesFloor(name, values[name]) : null)),
        hasFloors ? make("td", { class: "number floor" }, figure(floors[name])) : null)));
}

function nameCell(name, explained) {
  const { title, meaning, better } = wordsFor(name);
  if (!explained) return [titleOf(name)];
  const chosen = name === facts.chosen_by ? make("span", { class: "chosen" }, "chosen by") : null;
  const about = [meaning, BETTER[better]].filter(Boolean).join("; ");
  return [make("span", { title: name }, title), chosen, about ? make("small", {}, about) : null];
}

function timesFloor(name, value) {
  const floor = floors[name];
  const says = wordsFor(name).better === "less" && floor > 0 && isNumber(value);
  return says ? make("small", {}, `${figure(value / floor)} × real`) : null;
}

function showNearest() {
  if (!run.nearest) return;
  const { picture, facts: about } = run.nearest;
  const section = reveal("nearest");
  const image = make("img", {
    src: picture.source, width: picture.width, height: picture.height,
    alt: "Samples, each beside the training image that is nearest to it",
  });
  image.style.width = `${picture.width * Math.max(1, Math.round(NEAREST_WIDTH / picture.width))}px`;
  section.querySelector("figure").prepend(image);
  const distances = (Array.isArray(about.distances) ? about.distances : []).filter(isNumber);
  const median = distances.length ? ` Median distance ${figure(quantile(distances, 0.5))}` : "";
  const ofReal = median && isNumber(about.of_real) ? `; of as many real images ${figure(about.of_real)}` : "";
  section.querySelector("figcaption").textContent =
    `Samples, and to the right of each the training image that is nearest to it.${median}${ofReal}${median && "."}`;
}

function showSettings() {
  const settings = flattened(facts.settings || {});
  if (!settings.length) return;
  reveal("settings").querySelector("dl").append(
    ...settings.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value === null ? NO_SETTING : plain(value)))));
}

function flattened(table, before = "") {
  return Object.entries(table).flatMap(([name, value]) => {
    const isTable = value && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length;
    return isTable ? flattened(value, `${before}${name}.`) : [[before + name, value]];
  });
}

function showVersions() {
  const { data, versions } = facts;
  const parts = Object.entries(versions || {}).map(([name, version]) => `${name} ${plain(version)}`);
  if (data?.sha256) parts.push(`data sha256 ${plain(data.sha256)}`);
  byId("versions").textContent = parts.join(" · ");
}

showHead();
showAlarm();
showCurves();
showSamples();
showJudgement();
showNearest();
showSettings();
showVersions();
