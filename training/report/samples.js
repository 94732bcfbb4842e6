// Samples over time: pictures, or points on the plane over the discriminator's decision surface.

const FRAMES_PER_SECOND = 6;
const SIDE = 1120; // of the canvas, in its own pixels
const DOT = 5.5;
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
const darkScheme = matchMedia("(prefers-color-scheme: dark)");

/** Pictures of samples, one per frame. All are decoded at the start, so that none flickers. */
class PictureView {
  constructor(frames) {
    const { width, height } = frames[frames.length - 1].picture;
    this.images = frames.map(({ step, picture }) => {
      const image = html("img", { src: picture.source, width, height, alt: `Samples at step ${formatCount(step)}` });
      image.decoding = "sync";
      return image;
    });
    this.element = html("div", { class: "grid" }, this.images[0]);
    this.element.style.aspectRatio = `${width} / ${height}`;
    this.note = "Each frame shows samples of the same latents.";
  }

  show(position) {
    this.element.replaceChildren(this.images[Math.round(position)]);
  }
}

/** Points over the discriminator's logits. Points move between frames, because all frames have the same latents. */
class PointsView {
  constructor(frames) {
    this.frames = frames.map(({ step, points }) => ({
      step,
      samples: points.samples.map(([x, y = 0]) => [x, y]),
      surface: points.surface ? squashed(points.surface) : null,
    }));
    const reaches = frames.map(({ points }) => points.reach).filter(isNumber);
    const coordinates = this.frames.flatMap((frame) => frame.samples.flat().map(Math.abs));
    this.reach = Math.max(...reaches, 0) || 1.1 * quantile(coordinates, 0.99) || 1;
    this.canvas = html("canvas", { width: SIDE, height: SIDE, role: "img" });
    const hasSurface = this.frames.some((frame) => frame.surface);
    this.element = html("div", { class: "plane" }, this.canvas, hasSurface ? surfaceKey() : null);
    this.note = "Each frame shows samples of the same latents.";
    if (hasSurface) this.note += " Colours show the discriminator's logits relative to their median in this frame.";
    darkScheme.addEventListener("change", () => this.show(this.position));
  }

  /** `position`: a frame's index; between two frames everything is interpolated. */
  show(position) {
    this.position = position;
    const [from, to] = [this.frames[Math.floor(position)], this.frames[Math.ceil(position)]];
    const weight = position - Math.floor(position);
    const between = (a, b) => a + (b - a) * weight;
    const style = getComputedStyle(document.documentElement);
    const brush = this.canvas.getContext("2d");
    brush.fillStyle = style.getPropertyValue("--heat-middle");
    brush.fillRect(0, 0, SIDE, SIDE);
    if (from.surface && to.surface) {
      paintSurface(brush, from.surface.map((row, y) => row.map((value, x) => between(value, to.surface[y][x]))), style);
    }
    brush.fillStyle = style.getPropertyValue("--point");
    brush.strokeStyle = style.getPropertyValue("--point-edge");
    brush.lineWidth = 2;
    from.samples.forEach(([x, y], index) => {
      const [toX, toY] = to.samples[index] || [x, y];
      brush.beginPath();
      brush.arc(this.toPixels(between(x, toX)), SIDE - this.toPixels(between(y, toY)), DOT, 0, 2 * Math.PI);
      brush.stroke();
      brush.fill();
    });
    this.canvas.setAttribute("aria-label", `${from.samples.length} samples at step ${formatCount(from.step)}`);
  }

  toPixels(coordinate) {
    return ((coordinate / this.reach + 1) / 2) * SIDE;
  }
}

const surfaceKey = () =>
  html("p", { class: "key" }, html("span", {}, "classified as generated"), html("i"), html("span", {}, "as real"));

/** Logits → -1 … 1: 0 at the median, and near ±1 beyond the outer tenths. */
function squashed(surface) {
  const logits = surface.flat().filter(isNumber);
  const [low, middle, high] = [0.1, 0.5, 0.9].map((q) => quantile(logits, q));
  const scale = (high - low) / 2.5 || 1e-9;
  return surface.map((row) => row.map((logit) => (isNumber(logit) ? Math.tanh((logit - middle) / scale) : 0)));
}

/** Paint rows of values -1 … 1, from bottom to top. The first and the last value of a row lie on the edges. */
function paintSurface(brush, surface, style) {
  const colours = ["--heat-low", "--heat-middle", "--heat-high"].map((name) => rgb(style.getPropertyValue(name)));
  const [rows, columns] = [surface.length, surface[0].length];
  const mesh = new OffscreenCanvas(columns, rows);
  const pixels = new ImageData(columns, rows);
  surface.forEach((row, y) =>
    row.forEach((value, x) => {
      const end = colours[value < 0 ? 0 : 2];
      const mixed = colours[1].map((middle, channel) => middle + (end[channel] - middle) * Math.abs(value));
      pixels.data.set([...mixed, 255], 4 * ((rows - 1 - y) * columns + x));
    }));
  mesh.getContext("2d").putImageData(pixels, 0, 0);
  brush.imageSmoothingQuality = "high";
  brush.drawImage(mesh, 0.5, 0.5, columns - 1, rows - 1, 0, 0, SIDE, SIDE);
}

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.trim().slice(at, at + 2), 16));

/** The slider, the play button and the text of the step, for a view of frames. */
class Player {
  constructor(frames, view) {
    this.frames = frames;
    this.view = view;
    this.playing = null;
    this.slider = byId("slider");
    this.button = byId("play");
    this.slider.max = frames.length - 1;
    this.slider.disabled = this.button.disabled = frames.length < 2;
    this.slider.addEventListener("input", () => {
      this.pause();
      this.show(Number(this.slider.value));
    });
    this.button.addEventListener("click", () => (this.playing === null ? this.play() : this.pause()));
    byId("viewer").append(view.element);
    this.show(frames.length - 1);
  }

  show(position) {
    this.position = position;
    this.view.show(position);
    const index = Math.round(position);
    const { step } = this.frames[index];
    if (index === this.index) return;
    this.index = index;
    this.slider.value = index;
    this.slider.setAttribute("aria-valuetext", `step ${formatCount(step)}`);
    byId("shown").textContent = `step ${formatCount(step)}`;
    markShown(step);
  }

  seek(step) {
    this.pause();
    this.show(nearestTo(this.frames, step));
  }

  play() {
    const last = this.frames.length - 1;
    const from = this.position >= last ? 0 : this.position;
    let began = null;
    const tick = (now) => {
      began ??= now;
      const position = Math.min(last, from + ((now - began) / 1000) * FRAMES_PER_SECOND);
      this.show(reducedMotion.matches ? Math.floor(position) : position);
      if (position < last) this.playing = requestAnimationFrame(tick);
      else this.pause();
    };
    this.playing = requestAnimationFrame(tick);
    this.button.setAttribute("aria-label", "Pause");
    this.button.classList.add("playing");
  }

  pause() {
    cancelAnimationFrame(this.playing);
    this.playing = null;
    this.button.setAttribute("aria-label", "Play");
    this.button.classList.remove("playing");
    this.show(Math.round(this.position));
  }
}
