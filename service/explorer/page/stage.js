/** The stage: what was picked, shown large: one sample, the way between several, or a place in the plane of three. */

import { Newest, ask, askJson } from "./api.js";
import { byId, choice, make } from "./dom.js";
import { Maker } from "./maker.js";
import { ofStage, wayLength, weightsOf } from "./requests.js";
import { inWords, letterOf, nameOf } from "./wall.js";

const FRAMES_A_SECOND = 24;
const MODES = { sample: ["Sample", 1], travel: ["Travel", 2], plane: ["Plane", 3] };
const FILMS = ["gif", "mp4"];
const FILM_SIDE = 448;
/** Pixels: films of small pictures are enlarged to about that. */
const MOST_SCALE = 16;

export class Stage {
  #frames = [];
  #large = null;
  #playing = null;
  #shown = null;
  #thumbs = new Map();

  constructor(app) {
    this.app = app;
    this.maker = new Maker(app, () => this.#files());
    this.newest = new Newest(
      byId("stage"),
      async (request) => ({ request, samples: (await askJson(request.path, request)).samples, model: app.model }),
      (answer) => this.#show(answer),
      (problem) => app.fail(problem),
    );
    const change = app.change;
    byId("play").addEventListener("click", () => (this.#playing ? this.stop() : this.#play()));
    byId("at").addEventListener("input", (event) => { this.stop(); change({ at: Number(event.target.value) }); });
    byId("loop").addEventListener("change", (event) => change({ loop: event.target.checked }));
    byId("smooth").addEventListener("change", (event) => change({ smooth: event.target.checked }));
    ["toward-b", "toward-c"].forEach((id, index) => byId(id).addEventListener("input", (event) => {
      const plane = [...app.state.plane];
      plane[index] = Number(event.target.value);
      change({ plane });
    }));
    this.#wander(byId("pad"));
  }

  /** Another model: nothing is shown yet. */
  clear() {
    this.stop();
    this.#frames = [];
    this.#shown = null;
    this.#thumbs.clear();
    this.#large = this.app.view.stage();
    byId("seen").replaceChildren(this.#large);
    byId("caption").textContent = "";
  }

  /** Remember how a picked sample looks as it is. */
  know(samples) {
    for (const sample of samples) this.#thumbs.set(keyOf({ seed: sample.seed, label: sample.label ?? null }), sample);
  }

  knows = (pick) => this.#thumbs.has(keyOf(pick));

  /** Ask for what the state wants to be shown. */
  fetch(moving) {
    const picked = this.app.state.picks.length > 0;
    byId("seen").hidden = !picked;
    byId("nothing").hidden = picked;
    if (picked) this.newest.want(ofStage(this.app.state, this.app.model, moving));
  }

  /** Controls and what is written; nothing is asked for. */
  render() {
    const { state } = this.app;
    this.#tray(state);
    choice(byId("modes"), Object.fromEntries(Object.entries(MODES).map(([way, [text, least]]) => [way, {
      text, why: state.picks.length < least ? `Pick ${least === 1 ? "a sample" : `${least} samples`} first` : undefined,
    }])), state.way, (way) => { this.stop(); this.app.change({ way, at: 0 }); });
    byId("travel").hidden = state.way !== "travel";
    byId("plane").hidden = state.way !== "plane";
    byId("loop").checked = state.loop;
    byId("smooth").checked = state.smooth;
    this.#frame();
    this.#plane(state);
    this.maker.render();
  }

  stop() {
    if (!this.#playing) return;
    cancelAnimationFrame(this.#playing);
    this.#playing = null;
    byId("play").textContent = "Play";
  }

  #show({ request, samples, model }) {
    if (model !== this.app.model) return; // asked for before another model was chosen
    this.app.fine();
    this.#shown = request;
    this.#frames = samples;
    this.#frame();
    this.maker.render();
  }

  /** The sample that is to be seen now, of those that are here. */
  #frame() {
    const { state, view } = this.app;
    const slider = byId("at");
    const travelling = this.#shown?.frames === true;
    const last = travelling ? wayLength(state) - 1 : 0;
    const at = Math.min(state.at, last);
    if (state.way === "travel" && travelling) {
      slider.max = String(last);
      slider.value = String(at);
      slider.setAttribute("aria-valuetext", `frame ${at + 1} of ${last + 1}`);
    }
    const sample = this.#frames[travelling ? at - this.#shown.first : 0];
    if (!sample) return;
    const words = this.#caption(sample, at, last);
    byId("caption").textContent = words;
    const picks = state.picks.map((pick) => this.#thumbs.get(keyOf(pick))).filter(Boolean);
    view.show(this.#large, sample, words, travelling ? this.#frames : [], picks);
  }

  #caption(sample, at, last) {
    const { state } = this.app;
    const label = sample.label ? ` · ${inWords(sample.label)}` : "";
    if (state.way === "travel") {
      const stops = state.picks.map((_, index) => letterOf(index)).join(" → ");
      return `${stops}${state.loop ? " → A" : ""} · frame ${at + 1} of ${last + 1}${label}`;
    }
    if (state.way === "plane") {
      return weightsOf(state.plane).map((weight, index) => `${Math.round(100 * weight)} % ${letterOf(index)}`).join(", ") + label;
    }
    return nameOf(state.picks[state.focus] ?? sample).replace(", ", " · ");
  }

  #tray(state) {
    const tray = byId("tray");
    const focused = tray.contains(document.activeElement) ? [...tray.querySelectorAll("button")].indexOf(document.activeElement) : -1;
    tray.replaceChildren(...state.picks.map((pick, index) => {
      const name = `${letterOf(index)}: ${nameOf(pick)}`;
      const shows = make("button", {
        type: "button", class: "shows", title: name, "aria-label": `Show ${name}`,
        "aria-pressed": String(state.way === "sample" && index === state.focus),
        click: () => { this.stop(); this.app.change({ focus: index, way: "sample" }); },
      });
      const sample = this.#thumbs.get(keyOf(pick));
      if (sample) this.app.view.thumb(shows, sample);
      const away = make("button", { type: "button", class: "away", "aria-label": `Put ${name} back`, click: () => this.app.putBack(index) }, "×");
      return make("li", { "data-letter": letterOf(index) }, make("b", { class: "letter", "data-letter": letterOf(index) }, letterOf(index)), shows, away);
    }));
    if (focused >= 0) tray.querySelectorAll("button")[Math.min(focused, tray.querySelectorAll("button").length - 1)]?.focus();
  }

  #plane(state) {
    if (state.way !== "plane") return;
    byId("toward-b").value = String(state.plane[0]);
    byId("toward-c").value = String(state.plane[1]);
    const pad = byId("pad");
    const [x, y] = onPad(state.plane);
    const spot = byId("spot");
    spot.style.left = `${100 * x}%`;
    spot.style.top = `${100 * y}%`;
    pad.querySelectorAll(".corner").forEach((each) => each.remove());
    [[0, 0], [1, 0], [0, 1]].forEach((place, index) => {
      const [left, top] = onPad(place);
      const corner = make("span", { class: "corner letter", "data-letter": letterOf(index) }, letterOf(index));
      corner.style.left = `${100 * left}%`;
      corner.style.top = `${100 * top}%`;
      pad.append(corner);
    });
  }

  #wander(pad) {
    const follow = (event) => {
      const box = pad.getBoundingClientRect();
      const [u, v] = fromPad((event.clientX - box.x) / box.width, (event.clientY - box.y) / box.height);
      this.app.change({ plane: [u, v] });
    };
    pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); follow(event); });
    pad.addEventListener("pointermove", (event) => { if (pad.hasPointerCapture(event.pointerId)) follow(event); });
  }

  #play() {
    if (this.#frames.length < 2) return;
    const { state } = this.app;
    const from = state.at >= this.#frames.length - 1 ? 0 : state.at;
    let began = null;
    const step = (now) => {
      began ??= now;
      const gone = from + Math.floor(((now - began) * FRAMES_A_SECOND) / 1000);
      const count = this.#frames.length;
      if (gone >= count - 1 && !this.app.state.loop) {
        this.stop();
        this.app.change({ at: count - 1 });
        return;
      }
      if (gone % count !== this.app.state.at) this.app.change({ at: gone % count });
      if (this.#playing) this.#playing = requestAnimationFrame(step);
    };
    byId("play").textContent = "Pause";
    this.#playing = requestAnimationFrame(step);
  }

  /** What can be downloaded of what is shown: {name: work}. */
  #files() {
    const { state, model, view } = this.app;
    if (!this.#frames.length) return {};
    const request = this.#shown;
    if (!request.frames) {
      return { [view.ending.toUpperCase()]: async () => [await (await ask(request.path, { ...request, accept: view.accept })).blob(), `sample.${view.ending}`] };
    }
    const scale = Math.max(1, Math.min(MOST_SCALE, Math.floor(FILM_SIDE / (model.card.spec.output.width ?? FILM_SIDE))));
    const films = Object.entries(model.films).filter(([format]) => FILMS.includes(format)).map(([format, mediaType]) => [format.toUpperCase(), async () => {
      const body = { ...request.body, layout: "animation", fps: FRAMES_A_SECOND, scale };
      return [await (await ask(request.path, { body, accept: mediaType })).blob(), `travel.${format}`];
    }]);
    const frame = this.#frames[this.made.frame];
    return { [view.ending.toUpperCase()]: async () => [fileOf(frame, view), `frame-${state.at}.${view.ending}`], ...Object.fromEntries(films) };
  }

  /** The request whose answer is shown, and which of its samples. */
  get made() {
    if (!this.#shown) return null;
    const frame = this.app.state.at - (this.#shown.first ?? 0);
    return { request: this.#shown, frame: Math.max(0, Math.min(frame, this.#frames.length - 1)) };
  }
}

const keyOf = ({ seed, label }) => `${seed} ${label ?? ""}`;

// A at the lower left, B at the lower right, C above A; the plane goes on for half a side beyond them.
const onPad = ([u, v]) => [(u + 0.5) / 2, 1 - (v + 0.5) / 2];
const fromPad = (x, y) => [2 * x - 0.5, 2 * (1 - y) - 0.5].map((each) => Number(Math.max(-0.5, Math.min(1.5, each)).toFixed(2)));

function fileOf({ data }, { ending, accept }) {
  if (ending === "json") return new Blob([JSON.stringify(data)], { type: accept });
  return new Blob([Uint8Array.from(atob(data), (character) => character.charCodeAt(0))], { type: accept });
}
