// Samples through time: pictures, or points of the plane over the discriminator's surface.

const FRAMES_A_SECOND = 6;
const SIDE = 1120; // of the canvas, in its own pixels
const DOT = 5.5;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

/** Grids of samples as they were; all are decoded beforehand, so that none flickers. */
class Pictures {
  constructor(frames) {
    const { width, height } = frames[frames.length - 1].picture;
    this.images = frames.map(({ step, picture }) => {
      const image = make("img", { src: picture.source, width, height, alt: `Samples at step ${count(step)}` });
      image.decoding = "sync";
      return image;
    });
    this.element = make("div", { class: "grid" }, this.images[0]);
    this.element.style.aspectRatio = `${width} / ${height}`;
    this.note = "The same latents at every step.";
  }

  show(position) {
    this.element.replaceChildren(this.images[Math.round(position)]);
  }
}

/** Points that wander from one frame to the next, for they are of the same latents, over logits in two colours. */
class Plane {
  constructor(frames) {
    this.frames = frames.map(({ step, points }) => ({
      step,
      samples: points.samples.map(([x, y = 0]) => [x, y]),
      surface: points.surface ? squashed(points.surface) : null,
    }));
    const reaches = frames.map(({ points }) => points.reach).filter(isNumber);
    this.reach = Math.max(...reaches, 0) || 1.1 * quantile(this.frames.flatMap((frame) => frame.samples.flat().map(Math.abs)), 0.99) || 1;
    this.canvas = make("canvas", { width: SIDE, height: SIDE, role: "img" });
    const hasSurface = this.frames.some((frame) => frame.surface);
    this.element = make("div", { class: "plane" }, this.canvas, hasSurface ? surfaceKey() : null);
    this.note = "Points are samples of the same latents at every step.";
    if (hasSurface) this.note += " Colours are the discriminator's logits, about their median, each step by itself.";
    dark.addEventListener("change", () => this.show(this.position));
  }

  show(position) {
    this.position = position;
    const [from, to] = [this.frames[Math.floor(position)], this.frames[Math.ceil(position)]];
    const part = position - Math.floor(position);
    const between = (a, b) => a + (b - a) * part;
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
      brush.arc(this.across(between(x, toX)), SIDE - this.across(between(y, toY)), DOT, 0, 2 * Math.PI);
      brush.stroke();
      brush.fill();
    });
    this.canvas.setAttribute("aria-label", `${from.samples.length} samples at step ${count(from.step)}`);
  }

  across(value) {
    return ((value / this.reach + 1) / 2) * SIDE;
  }
}

const surfaceKey = () =>
  make("p", { class: "key" }, make("span", {}, "taken for generated"), make("i"), make("span", {}, "taken for real"));

/** Logits → -1 … 1: 0 at their median, and near the ends where the outer tenths begin. */
function squashed(surface) {
  const logits = surface.flat().filter(isNumber);
  const [low, middle, high] = [0.1, 0.5, 0.9].map((share) => quantile(logits, share));
  const scale = (high - low) / 2.5 || 1e-9;
  return surface.map((row) => row.map((logit) => (isNumber(logit) ? Math.tanh((logit - middle) / scale) : 0)));
}

function quantile(values, share) {
  const sorted = Float64Array.from(values).sort();
  return sorted.length ? sorted[Math.round(share * (sorted.length - 1))] : 0;
}

/** Rows of -1 … 1, from below, whose first and last values lie on the edges. */
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

/** Slider, play button and the step in words, for whatever shows frames. */
class Player {
  constructor(frames, stage) {
    this.frames = frames;
    this.stage = stage;
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
    byId("stage").append(stage.element);
    this.show(frames.length - 1);
  }

  show(position) {
    this.position = position;
    this.stage.show(position);
    const index = Math.round(position);
    const { step } = this.frames[index];
    if (index === this.index) return;
    this.index = index;
    this.slider.value = index;
    this.slider.setAttribute("aria-valuetext", `step ${count(step)}`);
    byId("shown").textContent = `step ${count(step)}`;
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
      const position = Math.min(last, from + ((now - began) / 1000) * FRAMES_A_SECOND);
      this.show(calm.matches ? Math.floor(position) : position);
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
