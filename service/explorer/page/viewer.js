/** The viewer: one selected sample large, a frame of the interpolation between them, or a point in the plane of three. */

import { LatestRequest, fetchBlob, fetchJson } from "./api.js";
import { ButtonGroup, byId } from "./dom.js";
import { Export } from "./export.js";
import { labelText, letterOf, sampleName } from "./names.js";
import { PlanePad } from "./plane.js";
import { frameCount, planeWeights, viewerRequest } from "./requests.js";
import { can, hasEnough } from "./state.js";

const FPS = 24;
const NEEDED = { interpolate: "interpolate", plane: "mix" };
/** The operation that a mode needs. */
const ANIMATION_FORMATS = ["gif", "mp4"];
const ANIMATION_SIDE = 448;
/** Pixels: animations of small images are enlarged to about this. */
const MAX_SCALE = 16;

export class Viewer {
  #element = null;
  #playing = null;
  /** What is shown: the request, the state that it was made from, and the samples of the answer. */
  #shown = null;

  constructor(app, selection) {
    this.app = app;
    this.selection = selection;
    this.pad = new PlanePad(app);
    this.export = new Export(app, this);
    this.modes = new ButtonGroup(byId("modes"), { sample: "Sample", interpolate: "Interpolate", plane: "Plane" }, (mode) => {
      this.stop();
      app.change({ mode, frame: 0 });
    });
    this.latest = new LatestRequest(
      byId("viewer"),
      async ({ request }) => (await fetchJson(request.path, request)).samples,
      (samples, { request, state, model }) => {
        if (model !== app.model) return; // another model was chosen meanwhile
        app.notice.clearError();
        this.#shown = { request, state, samples };
        this.#draw();
      },
      app.fail,
    );
    byId("play").addEventListener("click", () => (this.#playing ? this.stop() : this.#play()));
    byId("frame").addEventListener("input", (event) => { this.stop(); this.#seek(Number(event.target.value)); });
    byId("loop").addEventListener("change", (event) => app.change({ loop: event.target.checked }));
    byId("smooth").addEventListener("change", (event) => app.change({ smooth: event.target.checked }));
  }

  /** Show nothing: another model was chosen. */
  clear() {
    this.stop();
    this.latest.cancel();
    this.#shown = null;
    this.#element = this.app.view.createLarge();
    byId("sample").replaceChildren(this.#element);
    this.#draw();
  }

  /** Fetch the samples that the state asks for. `dragging`: a slider is still held. */
  fetch(dragging) {
    const { state, model } = this.app;
    if (state.selection.length) {
      this.latest.want({ request: viewerRequest(state, model, dragging), state, model });
      return;
    }
    this.latest.cancel();
    this.#shown = null;
    this.#draw();
  }

  /** Show a sample that has no seed, and that was made by `request`. */
  showOne(sample, request) {
    this.#shown = { request, state: this.app.state, samples: [sample] };
    this.render();
  }

  /** Draw the controls, without a request. */
  render() {
    const { state } = this.app;
    this.selection.render();
    const { model } = this.app;
    this.modes.show(state.mode, (mode) => hasEnough(state.selection, mode) && (!(mode in NEEDED) || can(model, NEEDED[mode])));
    byId("modes-help").hidden = hasEnough(state.selection, "plane") || !can(model, "interpolate");
    const isEmpty = !state.selection.length && !this.#shown;
    byId("empty").hidden = !isEmpty;
    byId("sample-box").hidden = isEmpty;
    byId("interpolation").hidden = state.mode !== "interpolate";
    byId("plane").hidden = state.mode !== "plane";
    byId("loop").checked = state.loop;
    byId("smooth").checked = state.smooth;
    this.pad.render(state);
    this.#draw();
  }

  /** Stop playing. */
  stop() {
    if (!this.#playing) return;
    cancelAnimationFrame(this.#playing);
    this.#playing = null;
    byId("play").textContent = "Play";
  }

  /** The request for what is shown, and which sample of its answer that is; null if nothing is shown. */
  get shown() {
    return this.#shown && { request: this.#shown.request, frame: this.#index };
  }

  /** The files that can be downloaded: {text of the button: function that gives a blob and the file's name}. */
  get files() {
    const { model, view } = this.app;
    if (!this.#shown) return {};
    const { request, samples } = this.#shown;
    const name = `${request.hasFrames ? `frame-${this.#frame}` : "sample"}.${view.extension}`;
    const single = { [view.extension.toUpperCase()]: async () => [blobOf(samples[this.#index], view), name] };
    if (!request.hasFrames) return single;
    const scale = Math.max(1, Math.min(MAX_SCALE, Math.floor(ANIMATION_SIDE / (view.width ?? ANIMATION_SIDE))));
    const animations = Object.entries(model.films).filter(([format]) => ANIMATION_FORMATS.includes(format)).map(([format, mediaType]) => [format.toUpperCase(), async () => {
      const body = { ...request.body, layout: "animation", fps: FPS, scale };
      return [await fetchBlob(request.path, { body, accept: mediaType }), `interpolation.${format}`];
    }]);
    return { ...single, ...Object.fromEntries(animations) };
  }

  /** The frame of the interpolation that is shown. */
  get #frame() {
    return Math.min(this.app.state.frame, frameCount(this.#shown.state) - 1);
  }

  /** Its index among the samples of the answer. */
  get #index() {
    const { request, samples } = this.#shown;
    return request.hasFrames ? Math.max(0, Math.min(this.#frame - request.firstFrame, samples.length - 1)) : 0;
  }

  #draw() {
    this.export.render();
    const { view } = this.app;
    byId("caption").textContent = this.#shown ? this.#caption() : "";
    if (!this.#shown || !this.#element) return;
    const { request, samples, state } = this.#shown;
    if (request.hasFrames) {
      const slider = byId("frame");
      slider.max = String(frameCount(state) - 1);
      slider.value = String(this.#frame);
      slider.setAttribute("aria-valuetext", `frame ${this.#frame + 1} of ${frameCount(state)}`);
    }
    const selected = state.selection.map(this.selection.sampleOf).filter(Boolean);
    view.showLarge(this.#element, samples[this.#index], this.#caption(), request.hasFrames ? samples : [], selected);
  }

  #caption() {
    const { state, samples } = this.#shown;
    const sample = samples[this.#index];
    const label = sample.label ? ` · ${labelText(sample.label)}` : "";
    if (state.mode === "interpolate") {
      const stops = state.selection.map((_, index) => letterOf(index)).join(" → ");
      return `${stops}${state.loop ? " → A" : ""} · frame ${this.#frame + 1} of ${frameCount(state)}${label}`;
    }
    if (state.mode === "plane") {
      return planeWeights(state.plane).map((weight, index) => `${weight < 0 ? "−" : ""}${Math.round(Math.abs(100 * weight))} % ${letterOf(index)}`).join(", ") + label;
    }
    return sampleName(state.selection[state.focus] ?? sample).replace(", ", " · ");
  }

  /** Show another frame of the answer that is here. */
  #seek(frame) {
    this.app.state = { ...this.app.state, frame };
    this.#draw();
    this.app.updateLink();
  }

  #play() {
    const shown = this.#shown;
    if (!shown?.request.hasFrames) return;
    const from = this.#frame >= frameCount(shown.state) - 1 ? 0 : this.#frame;
    let started = null;
    const step = (now) => {
      started ??= now;
      const count = frameCount(this.app.state);
      const frame = from + Math.floor(((now - started) * FPS) / 1000);
      const ended = frame >= count - 1 && !this.app.state.loop;
      this.#seek(ended ? count - 1 : frame % count);
      if (ended) this.stop();
      else this.#playing = requestAnimationFrame(step);
    };
    byId("play").textContent = "Pause";
    this.#playing = requestAnimationFrame(step);
  }
}

function blobOf({ data }, { extension, accept }) {
  if (accept.startsWith("text/")) return new Blob([data], { type: accept });
  if (extension === "json") return new Blob([JSON.stringify(data)], { type: accept });
  return new Blob([Uint8Array.from(atob(data), (character) => character.charCodeAt(0))], { type: accept });
}
