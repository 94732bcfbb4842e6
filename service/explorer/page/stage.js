/** The stage: one of the picks large, the way between them, or a place in the plane of three. */

import { Newest, askBlob, askJson } from "./api.js";
import { Choice, byId } from "./dom.js";
import { Maker } from "./maker.js";
import { Plane } from "./plane.js";
import { ofStage, wayLength, weightsOf } from "./requests.js";
import { LEAST_PICKS } from "./state.js";
import { inWords, letterOf, nameOf } from "./words.js";

const FRAMES_A_SECOND = 24;
const FILMS = ["gif", "mp4"];
const FILM_SIDE = 448;
/** Pixels: films of small pictures are enlarged to about that. */
const MOST_SCALE = 16;

export class Stage {
  #large = null;
  #playing = null;
  /** What is shown: the request, the state that it was made of, and the samples of its answer. */
  #shown = null;

  constructor(app, tray) {
    this.app = app;
    this.tray = tray;
    this.plane = new Plane(app);
    this.maker = new Maker(app, this);
    this.modes = new Choice(byId("modes"), { sample: "Sample", travel: "Travel", plane: "Plane" }, (way) => {
      this.stop();
      app.change({ way, at: 0 });
    });
    this.newest = new Newest(
      byId("stage"),
      async ({ request }) => (await askJson(request.path, request)).samples,
      (samples, { request, state, model }) => {
        if (model !== app.model) return; // asked for before another model was chosen
        app.fine();
        this.#shown = { request, state, samples };
        this.#draw();
      },
      app.fail,
    );
    byId("play").addEventListener("click", () => (this.#playing ? this.stop() : this.#play()));
    byId("at").addEventListener("input", (event) => { this.stop(); this.#seek(Number(event.target.value)); });
    byId("loop").addEventListener("change", (event) => app.change({ loop: event.target.checked }));
    byId("smooth").addEventListener("change", (event) => app.change({ smooth: event.target.checked }));
  }

  /** Another model: nothing is shown yet. */
  clear() {
    this.stop();
    this.newest.forget();
    this.#shown = null;
    this.#large = this.app.view.stage();
    byId("seen").replaceChildren(this.#large);
    this.#draw();
  }

  /** Ask for what the state wants to be shown; `moving`: a slider is held. */
  fetch(moving) {
    const { state, model } = this.app;
    if (state.picks.length) {
      this.newest.want({ request: ofStage(state, model, moving), state, model });
      return;
    }
    this.newest.forget();
    this.#shown = null;
    this.#draw();
  }

  /** Controls; nothing is asked for. */
  render() {
    const { state } = this.app;
    this.tray.render();
    this.modes.show(state.way, (way) => state.picks.length >= LEAST_PICKS[way]);
    byId("modes-help").hidden = state.picks.length >= LEAST_PICKS.plane;
    byId("nothing").hidden = state.picks.length > 0;
    byId("room").hidden = !state.picks.length;
    byId("travel").hidden = state.way !== "travel";
    byId("plane").hidden = state.way !== "plane";
    byId("loop").checked = state.loop;
    byId("smooth").checked = state.smooth;
    this.plane.render(state);
    this.#draw();
  }

  stop() {
    if (!this.#playing) return;
    cancelAnimationFrame(this.#playing);
    this.#playing = null;
    byId("play").textContent = "Play";
  }

  /** What is shown as a person would ask for it: the request, and which sample of its answer; null where nothing is. */
  get made() {
    return this.#shown && { request: this.#shown.request, frame: this.#place };
  }

  /** What can be downloaded of what is shown: {name: work that gives a blob and its file's name}. */
  get files() {
    const { model, view } = this.app;
    if (!this.#shown) return {};
    const { request, samples } = this.#shown;
    const one = { [view.ending.toUpperCase()]: async () => [fileOf(samples[this.#place], view), `${request.frames ? `frame-${this.#at}` : "sample"}.${view.ending}`] };
    if (!request.frames) return one;
    const scale = Math.max(1, Math.min(MOST_SCALE, Math.floor(FILM_SIDE / (model.card.spec.output.width ?? FILM_SIDE))));
    const films = Object.entries(model.films).filter(([format]) => FILMS.includes(format)).map(([format, mediaType]) => [format.toUpperCase(), async () => {
      const body = { ...request.body, layout: "animation", fps: FRAMES_A_SECOND, scale };
      return [await askBlob(request.path, { body, accept: mediaType }), `travel.${format}`];
    }]);
    return { ...one, ...Object.fromEntries(films) };
  }

  /** The frame of the way that is seen. */
  get #at() {
    return Math.min(this.app.state.at, wayLength(this.#shown.state) - 1);
  }

  /** Its place among the samples of the answer. */
  get #place() {
    const { request, samples } = this.#shown;
    return request.frames ? Math.max(0, Math.min(this.#at - request.first, samples.length - 1)) : 0;
  }

  #draw() {
    this.maker.render();
    const { view } = this.app;
    byId("caption").textContent = this.#shown ? this.#words() : "";
    if (!this.#shown || !this.#large) return;
    const { request, samples, state } = this.#shown;
    if (request.frames) {
      const slider = byId("at");
      slider.max = String(wayLength(state) - 1);
      slider.value = String(this.#at);
      slider.setAttribute("aria-valuetext", `frame ${this.#at + 1} of ${wayLength(state)}`);
    }
    const picks = state.picks.map(this.tray.of).filter(Boolean);
    view.show(this.#large, samples[this.#place], this.#words(), request.frames ? samples : [], picks);
  }

  /** What is shown, in words. */
  #words() {
    const { state, samples } = this.#shown;
    const sample = samples[this.#place];
    const label = sample.label ? ` · ${inWords(sample.label)}` : "";
    if (state.way === "travel") {
      const stops = state.picks.map((_, index) => letterOf(index)).join(" → ");
      return `${stops}${state.loop ? " → A" : ""} · frame ${this.#at + 1} of ${wayLength(state)}${label}`;
    }
    if (state.way === "plane") {
      return weightsOf(state.plane).map((weight, index) => `${weight < 0 ? "−" : ""}${Math.round(Math.abs(100 * weight))} % ${letterOf(index)}`).join(", ") + label;
    }
    return nameOf(state.picks[state.focus]).replace(", ", " · ");
  }

  /** Another frame of the way: nothing has to be asked for. */
  #seek(at) {
    this.app.state = { ...this.app.state, at };
    this.#draw();
    this.app.remember();
  }

  #play() {
    const shown = this.#shown;
    if (!shown?.request.frames) return;
    const from = this.#at >= wayLength(shown.state) - 1 ? 0 : this.#at;
    let began = null;
    const step = (now) => {
      began ??= now;
      const length = wayLength(this.app.state);
      const gone = from + Math.floor(((now - began) * FRAMES_A_SECOND) / 1000);
      const ended = gone >= length - 1 && !this.app.state.loop;
      this.#seek(ended ? length - 1 : gone % length);
      if (ended) this.stop();
      else this.#playing = requestAnimationFrame(step);
    };
    byId("play").textContent = "Pause";
    this.#playing = requestAnimationFrame(step);
  }
}

function fileOf({ data }, { ending, accept }) {
  if (ending === "json") return new Blob([JSON.stringify(data)], { type: accept });
  return new Blob([Uint8Array.from(atob(data), (character) => character.charCodeAt(0))], { type: accept });
}
