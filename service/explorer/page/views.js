/** How samples of a kind are seen: on the wall, in the tray, and large on the stage. */

import { make } from "./dom.js";

/** Pictures: a sheet of small ones, enlarged without smoothing. */
class PictureView {
  placed = false;
  accept = "image/png";
  ending = "png";

  constructor(model) {
    this.output = model.card.spec.output;
    this.tiles = Math.min(40, model.limits.max_samples);
  }

  fill(tile, sample) {
    const picture = tile.querySelector("img") ?? tile.appendChild(make("img", { alt: "" }));
    picture.src = this.source(sample);
  }

  thumb = (place, sample) => this.fill(place, sample);

  /** The large view's element, made once; `show` puts a sample into it. */
  stage() {
    const { height, width } = this.output;
    return make("img", { class: "large", width, height, alt: "" });
  }

  show(stage, sample, words) {
    const source = this.source(sample);
    if (stage.src !== source) stage.src = source;
    stage.alt = words;
  }

  /** After a change of colours or size. */
  repaint() {}

  source = (sample) => `data:image/png;base64,${sample.data}`;
}

/** Points of the plane: a scatter plot, with the discriminator's opinion behind it where the model carries one. */
class PlotView {
  placed = true;
  accept = "application/json";
  ending = "json";
  #points = [];
  #half = 1;
  #field = null;
  #drawn = null;
  #heat = null;

  constructor(model, surface) {
    this.tiles = Math.min(256, model.limits.max_samples);
    this.surface = surface;
    if (surface) this.#half = Math.max(...surface.extent.map(Math.abs));
  }

  /** Before a wall's tiles are filled: what they are placed in. */
  lay(field, samples) {
    this.#points = samples.map(({ data }) => data);
    if (!this.surface) this.#half = Math.max(this.#half, 1.1 * Math.max(...this.#points.flat().map(Math.abs)));
    this.#field = field.querySelector("canvas") ?? field.insertBefore(make("canvas", { "aria-hidden": "true" }), field.firstChild);
    this.#ground(this.#field);
  }

  fill(tile, sample) {
    const [x, y] = this.#place(sample.data);
    tile.style.left = `${100 * x}%`;
    tile.style.top = `${100 * y}%`;
  }

  thumb = thumbInLetters;

  stage = () => make("canvas", { class: "large", role: "img" });

  show(stage, sample, words, way, picks) {
    stage.setAttribute("aria-label", `${words}: ${sample.data.map((each) => each.toFixed(3)).join(", ")}`);
    this.#drawn = [stage, sample, way, picks];
    this.#paint(...this.#drawn);
  }

  repaint() {
    this.#heat = null;
    if (this.#field) this.#ground(this.#field);
    if (this.#drawn) this.#paint(...this.#drawn);
  }

  #paint(stage, sample, way, picks) {
    const brush = this.#ground(stage);
    const side = stage.width;
    const dot = (data, radius, colour) => {
      const [x, y] = this.#place(data);
      brush.beginPath();
      brush.arc(x * side, y * side, radius * (side / 400), 0, 2 * Math.PI);
      brush.fillStyle = colour;
      brush.fill();
    };
    const muted = colourOf("--muted");
    for (const point of this.#points) dot(point, 1.6, muted);
    brush.beginPath();
    for (const { data } of way) brush.lineTo(...this.#place(data).map((each) => each * side));
    brush.strokeStyle = colourOf("--ink");
    brush.lineWidth = side / 400;
    brush.stroke();
    picks.forEach(({ data }, index) => dot(data, 5, colourOf(`--letter-${index % 4}`)));
    dot(sample.data, 8, colourOf("--ink"));
    dot(sample.data, 5.5, colourOf("--paper"));
  }

  /** A canvas as sharp as the screen, with the surface on it. */
  #ground(canvas) {
    const side = Math.round((canvas.clientWidth || 400) * devicePixelRatio);
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const brush = canvas.getContext("2d");
    brush.fillStyle = colourOf("--plot");
    brush.fillRect(0, 0, side, side);
    if (this.surface) {
      const [left, right, low, high] = this.surface.extent;
      const [x, top] = this.#place([left, high]);
      const [farX, bottom] = this.#place([right, low]);
      this.#heat ??= heat(this.surface.values);
      brush.imageSmoothingQuality = "high";
      brush.drawImage(this.#heat, x * side, top * side, (farX - x) * side, (bottom - top) * side);
    }
    return brush;
  }

  /** Coordinates → shares of the plot's side from its left and top. */
  #place = ([x, y]) => [(x / this.#half + 1) / 2, (1 - y / this.#half) / 2];
}

/** Anything else: what it is in letters. */
class TextView {
  placed = false;
  accept = "application/json";
  ending = "json";

  constructor(model) {
    this.tiles = Math.min(24, model.limits.max_samples);
  }

  fill = thumbInLetters;
  thumb = thumbInLetters;
  stage = () => make("pre", { class: "large text" });

  show(stage, sample) {
    stage.textContent = inLetters(sample);
  }

  repaint() {}
}

const inLetters = ({ data }) => (Array.isArray(data) ? data.map((each) => each.toFixed(3)).join(" ") : String(data));

function thumbInLetters(place, sample) {
  const text = place.querySelector(".text") ?? place.appendChild(make("span", { class: "text" }));
  text.textContent = inLetters(sample);
}

/** The view of a model's samples. `surface` is null where it has none. */
export function viewOf(model, surface) {
  const { output } = model.card.spec;
  if (output.kind === "image") return new PictureView(model);
  if (output.kind === "points" && output.dim === 2) return new PlotView(model, surface);
  return new TextView(model);
}

const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Values, the first row being the lowest y → a picture: what the discriminator takes for real is warm. */
function heat(values) {
  const [low, middle, high] = ["low", "middle", "high"].map((each) => channels(colourOf(`--heat-${each}`)));
  const sorted = values.flat().sort((a, b) => a - b);
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const [centre, spread] = [at(0.5), Math.max(at(0.98) - at(0.5), at(0.5) - at(0.02), 1e-9)];
  const picture = make("canvas", { width: values[0].length, height: values.length });
  const brush = picture.getContext("2d");
  const pixels = brush.createImageData(picture.width, picture.height);
  values.toReversed().flat().forEach((value, index) => {
    const warmth = Math.max(-1, Math.min(1, (value - centre) / spread));
    const end = warmth < 0 ? low : high;
    for (let channel = 0; channel < 3; channel += 1) {
      pixels.data[4 * index + channel] = middle[channel] + Math.abs(warmth) * (end[channel] - middle[channel]);
    }
    pixels.data[4 * index + 3] = 255;
  });
  brush.putImageData(pixels, 0, 0);
  return picture;
}

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
