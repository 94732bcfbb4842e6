// The sections of the page. A section stays hidden if the run has no data for it.

const facts = run.facts;
const baselines = facts.floors || {};
const BETTER = { lower: "lower is better", higher: "higher is better", "near real": "best if near real samples" };
const NO_SETTING = "–";
const NEAREST_WIDTH = 336;

const reveal = (id) => {
  byId(id).hidden = false;
  return byId(id);
};

function showHead() {
  byId("name").textContent = toText(facts.name ?? run.folder);
  byId("description").textContent = facts.description ?? "";
  const status = facts.status ?? "unknown";
  byId("status").textContent = status;
  byId("status").dataset.status = status;
  const entries = [
    ["Steps", stepsText(run.progress.step, facts.steps)],
    ["Started", facts.started ? dateText(facts.started) : ""],
    ["Time", isNumber(run.progress.seconds) ? formatDuration(run.progress.seconds) : ""],
    ["Seed", facts.seed ?? ""],
    ["Data", dataText(facts.data)],
    ["Device", facts.hardware],
    ["Version", facts.version ? html("code", {}, toText(facts.version)) : ""],
    ["Best checkpoint", bestText(facts.best)],
  ];
  byId("facts").append(
    ...entries
      .filter(([, value]) => value !== "")
      .map(([name, value]) => html("div", {}, html("dt", {}, name), html("dd", {}, value instanceof Node ? value : toText(value)))));
}

function stepsText(done, planned) {
  if (isNumber(done) && isNumber(planned)) return `${formatCount(done)} of ${formatCount(planned)}`;
  return formatCount(done ?? planned ?? "");
}

function dateText(text) {
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? toText(text) : date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

function dataText(data) {
  if (!data) return "";
  const size = isNumber(data.size) ? `${formatCount(data.size)} samples` : null;
  return [data.name, size, data.licence].filter(Boolean).join(" · ");
}

function bestText(best) {
  if (!best) return "";
  const metric = facts.chosen_by ? `${titleOf(facts.chosen_by)} ` : "";
  return html("span", {}, html("code", {}, toText(best.name)), ` at step ${formatCount(best.step)}, ${metric}${formatNumber(best.value)}`);
}

function showAlarms() {
  const section = byId("alarms");
  if (facts.error) section.append(warning("Failed", isNumber(run.progress.step) ? run.progress.step : null, toText(facts.error)));
  section.append(...run.alarms.map(({ step, kind, message }) => warning(kind, step, withoutKind(message, kind))));
  if (section.childElementCount) return;
  const probes = run.probes.length;
  const text = `No alarm ${probes ? `in ${formatCount(probes)} ${probes === 1 ? "probe" : "probes"}` : "yet"}.`;
  section.append(html("p", { class: probes ? "calm probed" : "calm" }, text));
}

function warning(kind, step, message) {
  const [evidence, advice] = message.split("; try to ");
  return html("article", { class: "warning" },
    html("h2", {}, kind, step === null ? null : html("span", {}, `step ${formatCount(step)}`)),
    html("p", {}, sentence(evidence)),
    advice ? html("p", {}, html("b", {}, "Try to "), sentence(advice, false)) : null);
}

const withoutKind = (message, kind) => (message.startsWith(`${kind}: `) ? message.slice(kind.length + 2) : message);
const sentence = (text, capital = true) =>
  (capital ? text.charAt(0).toUpperCase() + text.slice(1) : text) + (/[.!?)]$/.test(text) ? "" : ".");

function showSamples() {
  const unreadable = run.unreadable.length ? ` Unreadable files: ${run.unreadable.join(", ")}.` : "";
  if (!run.frames.length && !unreadable) return;
  reveal("samples");
  let note = "";
  if (run.frames.length) {
    const view = run.frames[0].points ? new PointsView(run.frames) : new PictureView(run.frames);
    const player = new Player(run.frames, view);
    onStepClick = (step) => player.seek(step);
    note = view.note;
  }
  byId("samples-note").textContent = note + unreadable;
}

/** Return the names that have a number in at least one point. */
const namesIn = (points) => [
  ...new Set(points.flatMap(({ values }) => Object.keys(values).filter((name) => isNumber(values[name])))),
];
const baselineOf = (name) => (isNumber(baselines[name]) ? [baselines[name], "real samples"] : null);

function chartOf(name, points) {
  const { title, meaning, range, reference } = infoOf(name);
  return new Chart({ title, meaning, points, names: [name], range, reference: reference || baselineOf(name), logarithmic: true }).element;
}

function showCurves() {
  const main = byId("main-curves");
  const losses = namesIn(run.losses);
  if (losses.length) main.append(new Chart({ title: "Losses", points: run.losses, names: losses }).element);
  const metrics = namesIn(run.metrics).filter((name) => !infoOf(name).part_of);
  if (metrics.includes(facts.chosen_by)) main.append(chartOf(facts.chosen_by, run.metrics));
  main.hidden = !main.childElementCount;
  addCharts("probes", namesIn(run.probes), run.probes);
  addCharts("metrics", metrics.filter((name) => name !== facts.chosen_by), run.metrics);
}

function addCharts(id, names, points) {
  if (names.length) reveal(id).querySelector(".charts").append(...names.map((name) => chartOf(name, points)));
}

function showEvaluation() {
  if (!run.metrics.length) return;
  const section = reveal("evaluation");
  const last = run.metrics[run.metrics.length - 1];
  const best = facts.best && run.metrics.find((point) => point.step === facts.best.step && point !== last);
  const evaluations = best ? [last, best] : [last];
  const names = Object.keys(last.values);
  fillTable(section.querySelector("table"), names.filter((name) => !infoOf(name).part_of), evaluations, true);
  const parts = names.filter((name) => infoOf(name).part_of);
  if (parts.length) fillTable(reveal("parts").querySelector("table"), parts, evaluations, false);
  if (run.verdict) reveal("verdict").append(html("b", {}, sentence(run.verdict.kind)), ` ${toText(run.verdict.words)}`);
  byId("measured").textContent = [
    facts.measured ? `Measured: ${facts.measured}.` : "",
    Object.keys(baselines).length ? "Real samples: the same metrics of as many real samples, as a baseline." : "",
  ].join(" ").trim();
}

/** Add a row for each metric. With `explained`, rows show the metric's meaning and its ratio to the baseline. */
function fillTable(table, names, evaluations, explained) {
  const hasBaselines = names.some((name) => isNumber(baselines[name]));
  const headings = evaluations.map(({ step }, index) => `${index ? "best, step" : "step"} ${formatCount(step)}`);
  table.tHead.append(
    html("tr", {},
      ...[explained ? "" : "class", ...headings, ...(hasBaselines ? ["real samples"] : [])].map((heading, index) =>
        html("th", { scope: "col", class: index ? "number" : "name" }, heading))));
  table.tBodies[0].append(
    ...names.map((name) =>
      html("tr", {},
        html("th", { scope: "row" }, ...nameCell(name, explained)),
        ...evaluations.map(({ values }) => html("td", { class: "number" }, formatNumber(values[name]), explained ? ratioToBaseline(name, values[name]) : null)),
        hasBaselines ? html("td", { class: "number baseline" }, formatNumber(baselines[name])) : null)));
}

function nameCell(name, explained) {
  const { title, meaning, better } = infoOf(name);
  if (!explained) return [titleOf(name)];
  const selection = name === facts.chosen_by ? html("span", { class: "selection" }, "selection metric") : null;
  const about = [meaning, BETTER[better]].filter(Boolean).join("; ");
  return [html("span", { title: name }, title), selection, about ? html("small", {}, about) : null];
}

function ratioToBaseline(name, value) {
  const baseline = baselines[name];
  const isMeaningful = infoOf(name).better === "lower" && baseline > 0 && isNumber(value);
  return isMeaningful ? html("small", {}, `${formatNumber(value / baseline)} × real`) : null;
}

function showNearest() {
  if (!run.nearest) return;
  const { picture, facts: about } = run.nearest;
  const section = reveal("nearest");
  const image = html("img", {
    src: picture.source, width: picture.width, height: picture.height,
    alt: "Samples, each beside its nearest training image",
  });
  image.style.width = `${picture.width * Math.max(1, Math.round(NEAREST_WIDTH / picture.width))}px`;
  section.querySelector("figure").prepend(image);
  const distances = (Array.isArray(about.distances) ? about.distances : []).filter(isNumber);
  const median = distances.length ? ` Median distance: ${formatNumber(quantile(distances, 0.5))}` : "";
  const ofReal = median && isNumber(about.of_real) ? `; of real images: ${formatNumber(about.of_real)}` : "";
  section.querySelector("figcaption").textContent =
    `Samples, each with its nearest training image to the right.${median}${ofReal}${median && "."}`;
}

function showSettings() {
  const settings = flattened(facts.settings || {});
  if (!settings.length) return;
  reveal("settings").querySelector("dl").append(
    ...settings.map(([name, value]) => html("div", {}, html("dt", {}, name), html("dd", {}, value === null ? NO_SETTING : toText(value)))));
}

function flattened(table, prefix = "") {
  return Object.entries(table).flatMap(([name, value]) => {
    const isTable = value && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length;
    return isTable ? flattened(value, `${prefix}${name}.`) : [[prefix + name, value]];
  });
}

function showVersions() {
  const { data, versions } = facts;
  const parts = Object.entries(versions || {}).map(([name, version]) => `${name} ${toText(version)}`);
  if (data?.sha256) parts.push(`data sha256 ${toText(data.sha256)}`);
  byId("versions").textContent = parts.join(" · ");
}

showHead();
showAlarms();
showCurves();
showSamples();
showEvaluation();
showNearest();
showSettings();
showVersions();
