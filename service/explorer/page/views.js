/**
 * How samples of each output kind are drawn: in the gallery, as thumbnails of the selection, and large in the viewer.
 *
 * A view has `tiles` (samples in the gallery), `accept` and `extension` (of a downloaded sample), and the methods
 * fill(tile, sample), fillThumbnail(button, sample), createLarge(), and
 * showLarge(element, sample, caption, frames, selected), whose last two are the samples of the interpolation and of the
 * selection. repaint() follows a change of the color scheme or the size.
 */

import { create } from "./dom.js";

/** Images, enlarged without smoothing. */
class ImageView {
  isPlot = false;

  constructor(model, extension, accept) {
    [, this.height, this.width] = model.shape;
    this.tiles = Math.min(40, model.limits.max_samples);
    Object.assign(this, { extension, accept });
  }

  fill(tile, sample) {
    const image = tile.querySelector("img") ?? tile.appendChild(create("img", { alt: "" }));
    image.src = sourceOf(sample, this.accept);
  }

  fillThumbnail = (button, sample) => this.fill(button, sample);

  createLarge() {
    const { height, width } = this;
    return create("img", { class: "large", width, height, alt: "" });
  }

  showLarge(image, sample, caption) {
    const source = sourceOf(sample, this.accept);
    if (image.src !== source) image.src = source;
    image.alt = caption;
  }

  repaint() {}
}

const sourceOf = (sample, mediaType) => `data:${mediaType};base64,${sample.data}`;

/** Sounds: a player for the one that is shown. Nothing plays by itself. */
class AudioView {
  isPlot = false;

  constructor(model, extension, accept) {
    this.tiles = Math.min(24, model.limits.max_samples);
    Object.assign(this, { extension, accept });
  }

  fill = (container, sample) => fillWithText(container, { data: `♪ ${sample.seed ?? ""}` });
  fillThumbnail = this.fill;
  createLarge = () => create("audio", { class: "large", controls: true });

  showLarge(player, sample, caption) {
    const source = sourceOf(sample, this.accept);
    if (player.src !== source) player.src = source;
    player.setAttribute("aria-label", caption);
  }

  repaint() {}
}

/** Two-dimensional points: a scatter plot, over the discriminator's decision surface if the model has one. */
class PlotView {
  isPlot = true;
  accept = "application/json";
  extension = "json";
  #points = [];
  #extent = 1;
  /** The plot shows -extent to +extent in both directions. */
  #galleryCanvas = null;
  #shown = null;
  #surfaceImage = null;

  constructor(model, surface) {
    this.tiles = Math.min(256, model.limits.max_samples);
    this.surface = surface;
    if (surface) this.#extent = Math.max(...surface.extent.map(Math.abs));
  }

  /** Draw the gallery's background, before its tiles are placed on it. */
  prepare(gallery, samples) {
    this.#points = samples.map(({ data }) => data);
    if (!this.surface) this.#extent = Math.max(this.#extent, 1.1 * Math.max(...this.#points.flat().map(Math.abs)));
    this.#galleryCanvas = gallery.querySelector("canvas") ?? gallery.insertBefore(create("canvas", { "aria-hidden": "true" }), gallery.firstChild);
    this.#paintBackground(this.#galleryCanvas);
  }

  fill(tile, sample) {
    const [x, y] = this.#onPlot(sample.data);
    tile.style.left = `${100 * x}%`;
    tile.style.top = `${100 * y}%`;
  }

  fillThumbnail = fillWithText;

  createLarge = () => create("canvas", { class: "large", role: "img" });

  showLarge(canvas, sample, caption, frames, selected) {
    canvas.setAttribute("aria-label", `${caption}: ${sample.data.map((each) => each.toFixed(3)).join(", ")}`);
    this.#shown = [canvas, sample, frames, selected];
    this.#paint(...this.#shown);
  }

  repaint() {
    this.#surfaceImage = null;
    if (this.#galleryCanvas) this.#paintBackground(this.#galleryCanvas);
    if (this.#shown) this.#paint(...this.#shown);
  }

  #paint(canvas, sample, frames, selected) {
    const context = this.#paintBackground(canvas);
    const side = canvas.width;
    const dot = (data, radius, color) => {
      const [x, y] = this.#onPlot(data);
      context.beginPath();
      context.arc(x * side, y * side, radius * (side / 400), 0, 2 * Math.PI);
      context.fillStyle = color;
      context.fill();
    };
    const muted = colorOf("--muted");
    for (const point of this.#points) dot(point, 1.6, muted);
    context.beginPath();
    for (const { data } of frames) context.lineTo(...this.#onPlot(data).map((each) => each * side));
    context.strokeStyle = colorOf("--ink");
    context.lineWidth = side / 400;
    context.stroke();
    selected.forEach(({ data }, index) => dot(data, 5, colorOf(`--letter-${index % 4}`)));
    dot(sample.data, 8, colorOf("--ink"));
    dot(sample.data, 5.5, colorOf("--paper"));
  }

  /** Size the canvas for the screen's resolution, and draw the surface. Gives its 2D context. */
  #paintBackground(canvas) {
    const side = Math.round((canvas.clientWidth || 400) * devicePixelRatio);
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    context.fillStyle = colorOf("--plot");
    context.fillRect(0, 0, side, side);
    if (this.surface) {
      const [xMin, xMax, yMin, yMax] = this.surface.extent;
      const [left, top] = this.#onPlot([xMin, yMax]);
      const [right, bottom] = this.#onPlot([xMax, yMin]);
      this.#surfaceImage ??= heatmap(this.surface.values);
      context.imageSmoothingQuality = "high";
      context.drawImage(this.#surfaceImage, left * side, top * side, (right - left) * side, (bottom - top) * side);
    }
    return context;
  }

  /** Coordinates → fractions of the plot's side from its left and top. */
  #onPlot = ([x, y]) => [(x / this.#extent + 1) / 2, (1 - y / this.#extent) / 2];
}

/** All other samples, as text. */
class TextView {
  isPlot = false;

  constructor(model, extension, accept) {
    Object.assign(this, { extension, accept });
    this.tiles = Math.min(24, model.limits.max_samples);
  }

  fill = fillWithText;
  fillThumbnail = fillWithText;
  createLarge = () => create("pre", { class: "large text" });

  showLarge(element, sample) {
    element.textContent = textOf(sample);
  }

  repaint() {}
}

const textOf = ({ data }) => (Array.isArray(data) ? data.map((each) => each.toFixed(3)).join(" ") : String(data));

function fillWithText(container, sample) {
  const text = container.querySelector(".text") ?? container.appendChild(create("span", { class: "text" }));
  text.textContent = textOf(sample);
}

/** The view for a model's samples, by what their default format is. `surface`: the answer of /models/{name}/surface, or null. */
export function viewOf(model, surface) {
  const [[format, mediaType]] = Object.entries(model.media_types);
  if (mediaType === "application/json" && String(model.shape) === "2") return new PlotView(model, surface);
  const View = { image: ImageView, audio: AudioView }[mediaType.split("/")[0]] ?? TextView;
  return new View(model, format, mediaType);
}

const colorOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * The discriminator's logits (row 0 has the lowest y) → a canvas. Higher logits are warmer: the median has the middle
 * color, and the colors end at the 2 % or the 98 % quantile, whichever is farther from the median.
 */
function heatmap(logits) {
  const [low, middle, high] = ["low", "middle", "high"].map((each) => channelsOf(colorOf(`--heat-${each}`)));
  const sorted = logits.flat().sort((a, b) => a - b);
  const quantile = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const median = quantile(0.5);
  const spread = Math.max(quantile(0.98) - median, median - quantile(0.02), 1e-9);
  const canvas = create("canvas", { width: logits[0].length, height: logits.length });
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  logits.toReversed().flat().forEach((logit, index) => {
    const warmth = Math.max(-1, Math.min(1, (logit - median) / spread));
    const end = warmth < 0 ? low : high;
    for (let channel = 0; channel < 3; channel += 1) {
      image.data[4 * index + channel] = middle[channel] + Math.abs(warmth) * (end[channel] - middle[channel]);
    }
    image.data[4 * index + 3] = 255;
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

/** "#rrggbb" → [red, green, blue]. */
const channelsOf = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
