/** From the state to the requests that make what is on the screen, and these as a person would send them. */

import { address } from "./api.js";

const STEPS = 24;

/** What every request says: which model, and what changes all samples at once. */
function common(state, model) {
  const body = { model: `${model.name}@${model.version}` };
  if (state.truncation !== 1) body.truncation = state.truncation;
  const push = Object.fromEntries(Object.entries(state.push).filter(([, amount]) => amount !== 0));
  if (Object.keys(push).length) Object.assign(body, { directions: push, directions_version: model.directions_version });
  return body;
}

const withLabel = (place, label) => (label === null ? place : { ...place, label });

/** The wall: all its samples in one request. */
export function ofWall(state, model, seeds) {
  return { path: "/generate", body: withLabel({ ...common(state, model), seeds }, state.label) };
}

/** Picks as they are at rest; all of them name a class, or none does. */
export function ofSeeds(model, picks) {
  const body = { model: `${model.name}@${model.version}`, seeds: picks.map(({ seed }) => seed) };
  return { body: picks[0].label === null ? body : { ...body, label: picks.map(({ label }) => label) } };
}

/** How many frames the way by the picks has. */
export const wayLength = ({ picks, loop }) => (loop ? picks.length * (STEPS - 1) : (picks.length - 1) * (STEPS - 1) + 1);

/**
 * What the stage shows. `frames` says that the answer has several samples, of which one is shown: those of the whole
 * way, or while a slider is `moving` those between two picks, which come sooner; `first` is where they begin.
 */
export function ofStage(state, model, moving = false) {
  const picks = state.picks.map(({ seed, label }) => withLabel({ seed }, label));
  if (state.way === "travel") {
    const body = { ...common(state, model), keyframes: picks, steps: STEPS };
    if (state.smooth) body.easing = "smooth";
    if (moving && wayLength(state) > STEPS) {
      const leg = Math.floor(Math.min(state.at, wayLength(state) - 2) / (STEPS - 1));
      body.keyframes = [picks[leg], picks[(leg + 1) % picks.length]];
      return { path: "/interpolate", body, frames: true, first: leg * (STEPS - 1) };
    }
    if (state.loop) body.loop = true;
    return { path: "/interpolate", body, frames: true, first: 0 };
  }
  if (state.way === "plane") {
    const sources = weightsOf(state.plane).map((weight, index) => ({ ...picks[index], weight }));
    return { path: "/mix", body: { ...common(state, model), sources } };
  }
  return { path: "/generate", body: { ...common(state, model), ...picks[state.focus] } };
}

/** Shares of A, B and C at a place in their plane; A is at [0, 0]. */
export function weightsOf([towardB, towardC]) {
  const rounded = (value) => Number(value.toFixed(4));
  return [rounded(1 - towardB - towardC), towardB, towardC];
}

export const LANGUAGES = { curl: "curl", python: "Python" };

/** A request as a command or a program that writes what is shown into a file. */
export function written(language, { path, body, frames }, { accept, ending }, frame, token) {
  const file = `${frames ? `frame-${frame}` : "sample"}.${ending}`;
  return { curl: asCurl, python: asPython }[language](path, body, frames ? frame : null, frames ? "application/json" : accept, file, token);
}

function asCurl(path, body, frame, accept, file, token) {
  const lines = [
    `curl -sS --fail-with-body ${quoted(address(path))}`,
    "-H 'Content-Type: application/json'",
    `-H 'Accept: ${accept}'`,
    ...(token ? ['-H "Authorization: Bearer $LATENTD_TOKEN"'] : []),
    `-d ${quoted(JSON.stringify(body))}`,
  ];
  if (frame === null) lines.push(`-o ${file}`);
  else lines.push(`| python3 -c ${quoted(oneFrame(frame, file, "json.load(sys.stdin)"))}`);
  return lines.join(" \\\n  ");
}

function oneFrame(frame, file, answer) {
  const data = `${answer}["samples"][${frame}]["data"]`;
  if (file.endsWith(".json")) return `import json, sys; json.dump(${data}, open("${file}", "w"))`;
  return `import base64, json, sys; open("${file}", "wb").write(base64.b64decode(${data}))`;
}

function asPython(path, body, frame, accept, file, token) {
  const lines = [
    ...(frame !== null && !file.endsWith(".json") ? ["import base64"] : []),
    ...(frame !== null && file.endsWith(".json") ? ["import json"] : []),
    ...(token ? ["import os"] : []),
    "from pathlib import Path", "", "import httpx  # pip install httpx", "",
    "answer = httpx.post(",
    `    ${literal(address(path))},`,
    `    json=${literal(body)},`,
    `    headers={"Accept": ${literal(accept)}${token ? ', "Authorization": "Bearer " + os.environ["LATENTD_TOKEN"]' : ""}},`,
    ").raise_for_status()",
  ];
  const data = `answer.json()["samples"][${frame}]["data"]`;
  if (frame === null) lines.push(`Path("${file}").write_bytes(answer.content)`);
  else if (file.endsWith(".json")) lines.push(`Path("${file}").write_text(json.dumps(${data}))`);
  else lines.push(`Path("${file}").write_bytes(base64.b64decode(${data}))`);
  return lines.join("\n");
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** A value as Python writes it. */
function literal(value) {
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.entries(value).map(([name, each]) => `${literal(name)}: ${literal(each)}`).join(", ")}}`;
  }
  return { true: "True", false: "False", null: "None" }[JSON.stringify(value)] ?? JSON.stringify(value);
}
