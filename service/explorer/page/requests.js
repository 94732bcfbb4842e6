/** State → the requests for the samples on the screen, and the same requests as a command or a program. */

import { urlOf } from "./api.js";
import { can } from "./state.js";

const STEPS = 24;

/** The fields that every request has: the model, and what moves all samples at once. */
function commonFields(state, model) {
  const body = { model: `${model.name}@${model.version}` };
  if (state.truncation !== 1) body.truncation = state.truncation;
  const amounts = Object.fromEntries(Object.entries(state.amounts).filter(([, amount]) => amount !== 0));
  Object.assign(body, state.fields);
  if (Object.keys(amounts).length) Object.assign(body, { directions: amounts, directions_version: model.directions_version });
  return body;
}

const withLabel = (fields, label) => (label === null ? fields : { ...fields, label });

/** All samples of the gallery. `pictures` (base64): what a model without seeds is given. */
export function galleryRequest(state, model, seeds, pictures) {
  if (!can(model, "seed")) return { path: "/translate", body: withLabel({ ...commonFields(state, model), images: pictures }, state.label) };
  return { path: "/generate", body: withLabel({ ...commonFields(state, model), seeds }, state.label) };
}

/** The body for samples without truncation and directions. Either all of them have a label or none. */
export function seedsBody(model, samples) {
  const body = { model: `${model.name}@${model.version}`, seeds: samples.map(({ seed }) => seed) };
  return samples[0].label === null ? body : { ...body, label: samples.map(({ label }) => label) };
}

/** The number of frames of the interpolation. */
export const frameCount = ({ selection, loop }) => (loop ? selection.length * (STEPS - 1) : (selection.length - 1) * (STEPS - 1) + 1);

/**
 * The request for what the viewer shows: {path, body}, and for an interpolation {hasFrames, firstFrame}.
 *
 * While a slider is dragged (`dragging`) only the segment that is seen is asked for, because it comes sooner.
 * `firstFrame` is where it begins.
 */
export function viewerRequest(state, model, dragging = false) {
  const selected = state.selection.map(({ seed, label }) => withLabel({ seed }, label));
  if (state.mode === "interpolate") {
    const body = { ...commonFields(state, model), keyframes: selected, steps: STEPS };
    if (state.smooth) body.easing = "smooth";
    if (dragging && frameCount(state) > STEPS) {
      const segment = Math.floor(Math.min(state.frame, frameCount(state) - 2) / (STEPS - 1));
      body.keyframes = [selected[segment], selected[(segment + 1) % selected.length]];
      return { path: "/interpolate", body, hasFrames: true, firstFrame: segment * (STEPS - 1) };
    }
    if (state.loop) body.loop = true;
    return { path: "/interpolate", body, hasFrames: true, firstFrame: 0 };
  }
  if (state.mode === "plane") {
    const sources = planeWeights(state.plane).map((weight, index) => ({ ...selected[index], weight }));
    return { path: "/mix", body: { ...commonFields(state, model), sources } };
  }
  return { path: "/generate", body: { ...commonFields(state, model), ...selected[state.focus] } };
}

/** The weights of A, B and C at a point of their plane, which add up to 1. A is at [0, 0]. */
export function planeWeights([weightB, weightC]) {
  return [Number((1 - weightB - weightC).toFixed(4)), weightB, weightC];
}

export const LANGUAGES = { curl: "curl", python: "Python" };

/** Code that sends a request and writes the sample that is shown into a file. `accept` and `extension`: of that file. */
export function asCode(language, { path, body, hasFrames }, { accept, extension }, frame, usesToken) {
  const file = `${hasFrames ? `frame-${frame}` : "sample"}.${extension}`;
  return { curl: asCurl, python: asPython }[language](path, body, hasFrames ? frame : null, hasFrames ? "application/json" : accept, file, usesToken);
}

function asCurl(path, body, frame, accept, file, usesToken) {
  const lines = [
    `curl -sS --fail-with-body ${shellQuoted(urlOf(path))}`,
    "-H 'Content-Type: application/json'",
    `-H 'Accept: ${accept}'`,
    ...(usesToken ? ['-H "Authorization: Bearer $LATENTD_TOKEN"'] : []),
    `-d ${shellQuoted(JSON.stringify(body))}`,
  ];
  if (frame === null) lines.push(`-o ${file}`);
  else lines.push(`| python3 -c ${shellQuoted(writeFrame(frame, file))}`);
  return lines.join(" \\\n  ");
}

/** A Python program that writes one frame of the answer on its standard input. */
function writeFrame(frame, file) {
  const data = `json.load(sys.stdin)["samples"][${frame}]["data"]`;
  if (file.endsWith(".json")) return `import json, sys; json.dump(${data}, open("${file}", "w"))`;
  return `import base64, json, sys; open("${file}", "wb").write(base64.b64decode(${data}))`;
}

function asPython(path, body, frame, accept, file, usesToken) {
  const lines = [
    ...(frame !== null && !file.endsWith(".json") ? ["import base64"] : []),
    ...(frame !== null && file.endsWith(".json") ? ["import json"] : []),
    ...(usesToken ? ["import os"] : []),
    "from pathlib import Path", "", "import httpx  # pip install httpx", "",
    "answer = httpx.post(",
    `    ${pythonLiteral(urlOf(path))},`,
    `    json=${pythonLiteral(body)},`,
    `    headers={"Accept": ${pythonLiteral(accept)}${usesToken ? ', "Authorization": "Bearer " + os.environ["LATENTD_TOKEN"]' : ""}},`,
    ").raise_for_status()",
  ];
  const data = `answer.json()["samples"][${frame}]["data"]`;
  if (frame === null) lines.push(`Path("${file}").write_bytes(answer.content)`);
  else if (file.endsWith(".json")) lines.push(`Path("${file}").write_text(json.dumps(${data}))`);
  else lines.push(`Path("${file}").write_bytes(base64.b64decode(${data}))`);
  return lines.join("\n");
}

const shellQuoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function pythonLiteral(value) {
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.entries(value).map(([name, each]) => `${pythonLiteral(name)}: ${pythonLiteral(each)}`).join(", ")}}`;
  }
  return { true: "True", false: "False", null: "None" }[JSON.stringify(value)] ?? JSON.stringify(value);
}
