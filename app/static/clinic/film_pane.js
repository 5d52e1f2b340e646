// One film on a canvas: its window, place and turn, and the computer's marks over it.
//
// Cornerstone3D draws the film and knows where each pixel lands; what is laid over it follows the same matrix.
import { calculateTransform, canvasToPixel, fitToWindow, pixelToCanvas, renderGrayscaleImage } from "../vendor/cornerstone-core/cornerstone-core.js";
import { contours } from "../vendor/d3-contour/d3-contour.js";

const SVG = "http://www.w3.org/2000/svg";
const LARGEST_ZOOM = 24;
/** While a window is being dragged a large film is drawn from a copy of at most this many pixels a side. */
const ROUGH_SIDE = 1024;
const ROUGH_FROM = 1.5e6;
const SETTLED_AFTER = 160;
const LENS_SIZE = 200;
const EDGE = 6, LABEL_HEIGHT = 16;
const LENS_ZOOM = 2.5;
/** Heat at which an outline is drawn; the map's colour begins at .25 and is full at .7 (app/pictures.py). */
const OUTLINES = [.3, .5, .7];
const CLEAR_BELOW = .25, FULL_FROM = .7;
const OUTLINE_SIDE = 160;

export class FilmPane {
  /** @param {HTMLElement} element  @param {DOMStringMap} words */
  constructor(element, words) {
    this.element = element;
    this.words = words;
    this.canvas = element.querySelector(".pane__film");
    this.marks = element.querySelector(".pane__marks");
    this.lens = element.querySelector(".pane__lens");
    this.film = null;
    this.drawn = null;
    this.rough = null;
    this.fitted = true;
    this.lensAt = null;
    this.shown = { strength: 0, outline: false, regions: true };
    this.frame = 0;
    this.settling = 0;
    this.asked = 0;
    new ResizeObserver(() => this.resize()).observe(element);
  }

  /** Load a film and show it as at first. Every pixel of it where ``whole``. */
  async show(film, whole = false) {
    const asked = ++this.asked;
    const kept = whole && this.film === film ? this.place() : null;
    this.say(this.words.wordsLoading);
    try {
      const response = await fetch(whole ? film.full : film.pixels, { credentials: "same-origin" });
      if (!response.ok) throw new Error(String(response.status));
      const stored = storedValues(await response.arrayBuffer());
      if (asked !== this.asked) return false;
      this.film = film;
      this.stored = stored;
      this.prepare();
      this.drawMarks();
      this.say("");
      if (kept) this.putBack(kept);
      this.element.dataset.shown = String(film.id);
      return true;
    } catch (error) {
      if (asked !== this.asked) return false;
      this.say(this.words.wordsFailed);
      return false;
    }
  }

  /** Forget the film and its memory. */
  clear() {
    this.asked += 1;
    this.film = this.stored = this.drawn = this.rough = null;
    this.marks.replaceChildren();
    this.lens.hidden = true;
    delete this.element.dataset.shown;
  }

  prepare() {
    const { values, width, height, start } = this.stored;
    this.range = extremes(values);
    this.window = [...start];
    this.preset = "start";
    this.element.querySelector(".pane__title").textContent = this.film.title;
    this.canvas.setAttribute("aria-label", `${this.element.getAttribute("aria-label")}: ${this.film.title}`);
    this.drawn = enabled(this.canvas, values, width, height, this.range);
    this.rough = null;
    const step = Math.ceil(Math.max(width, height) / ROUGH_SIDE);
    if (values.length > ROUGH_FROM && step > 1) {
      const small = everyNth(values, width, height, step);
      this.rough = enabled(this.canvas, small.values, small.width, small.height, this.range);
      this.rough.step = step;
    }
    this.fitted = true;
    this.inverted = false;
    this.resize();
  }

  // --- place and turn ---------------------------------------------------------------------------

  resize() {
    const { clientWidth, clientHeight } = this.element;
    if (!clientWidth || !clientHeight) return;
    const dots = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(clientWidth * dots);
    this.canvas.height = Math.round(clientHeight * dots);
    this.dots = dots;
    if (this.drawn && this.fitted) fitToWindow(this.drawn);
    this.draw();
  }

  /** Scale at which the whole film is just seen. */
  get wholeScale() {
    const probe = { ...this.drawn, viewport: { ...this.drawn.viewport, translation: {} } };
    fitToWindow(probe);
    return probe.viewport.scale;
  }

  fit() {
    if (!this.drawn) return;
    fitToWindow(this.drawn);
    this.fitted = true;
    this.draw();
  }

  /** One pixel of what was sent on one dot of the screen, around a point in shares of the pane. */
  actual(x = .5, y = .5) {
    if (this.drawn) this.zoom(1 / this.drawn.viewport.scale, x, y);
  }

  /** Enlarge by a factor; the point at (x, y), shares of the pane, stays where it is. */
  zoom(factor, x = .5, y = .5) {
    if (!this.drawn) return;
    const { viewport, canvas } = this.drawn;
    const least = this.wholeScale / 2;
    const scale = Math.min(Math.max(viewport.scale * factor, least), Math.max(LARGEST_ZOOM, least));
    const point = [x * canvas.width, y * canvas.height];
    const pixel = canvasToPixel(this.drawn, point);
    viewport.scale = scale;
    const moved = pixelToCanvas(this.drawn, pixel);
    this.shift(point[0] - moved[0], point[1] - moved[1]);
  }

  /** Move by shares of the pane. */
  pan(x, y) {
    if (this.drawn) this.shift(x * this.canvas.width, y * this.canvas.height);
  }

  shift(x, y) {
    const { viewport } = this.drawn;
    viewport.translation.x += x / viewport.scale;
    viewport.translation.y += y / viewport.scale;
    this.hold();
    this.fitted = false;
    this.draw();
  }

  /** Some of the film stays in sight, wherever it is pushed. */
  hold() {
    const { viewport, canvas, image } = this.drawn;
    const sideways = viewport.rotation % 180 !== 0;
    const most = (of, size) => of / 2 / viewport.scale + size / 2 - 40 / viewport.scale;
    const limitX = most(canvas.width, sideways ? image.height : image.width);
    const limitY = most(canvas.height, sideways ? image.width : image.height);
    viewport.translation.x = Math.min(Math.max(viewport.translation.x, -limitX), limitX);
    viewport.translation.y = Math.min(Math.max(viewport.translation.y, -limitY), limitY);
  }

  /** Turn by a multiple of 90 degrees, clockwise. */
  turn(degrees) {
    if (!this.drawn) return;
    const { viewport } = this.drawn;
    viewport.rotation = (viewport.rotation + degrees + 360) % 360;
    if (this.fitted) fitToWindow(this.drawn);
    this.hold();
    this.draw();
  }

  reset() {
    if (!this.drawn) return;
    this.drawn.viewport.rotation = 0;
    this.inverted = false;
    this.choose("start");
    this.fit();
  }

  /** What `putBack` restores when the same film comes in another size. */
  place() {
    const { viewport, image } = this.drawn;
    const { rotation, translation, scale } = viewport;
    return { rotation, translation: { ...translation }, scale, width: image.width, fitted: this.fitted, window: this.window, preset: this.preset, inverted: this.inverted };
  }

  putBack(kept) {
    const { viewport, image } = this.drawn;
    const times = image.width / kept.width;
    viewport.rotation = kept.rotation;
    viewport.scale = kept.scale / times;
    viewport.translation = { x: kept.translation.x * times, y: kept.translation.y * times };
    Object.assign(this, { fitted: kept.fitted, window: kept.window, preset: kept.preset, inverted: kept.inverted });
    if (kept.fitted) fitToWindow(this.drawn);
    this.draw();
  }

  // --- window -----------------------------------------------------------------------------------

  /** Whether high values are shown dark: by the film's own polarity, or because somebody asked. */
  get isNegative() {
    return this.stored.inverted !== this.inverted;
  }

  invert() {
    if (!this.drawn) return;
    this.inverted = !this.inverted;
    this.draw();
  }

  /** A window by name; false where the film has none of that name. */
  choose(name) {
    if (!this.drawn) return false;
    const ends = this.ends(name);
    if (!ends) return false;
    this.window = ends;
    this.preset = name;
    this.draw();
    return true;
  }

  ends(name) {
    const { start, window, values, width, height, inverted } = this.stored;
    if (name === "start") return [...start];
    if (name === "file") return window && [...window];
    if (name === "whole") return [...this.range];
    // Lungs are the darker part of a chest film and bones the brighter, whatever the unit's values: shares of
    // the film's own values, taken from its middle, where there is no collimator's edge.
    const [low, high] = name === "lungs" ? [.02, .6] : [.4, .998];
    const shares = inverted ? [1 - high, 1 - low] : [low, high];
    const [black, white] = quantiles(values, width, height, shares);
    return white > black ? [black, white] : [...start];
  }

  /** Change contrast and brightness: the width by a factor, the level by a share of the width. */
  adjust(widen, brighten) {
    if (!this.drawn) return;
    const [black, white] = this.window;
    const span = this.range[1] - this.range[0] + 1;
    const width = Math.min(Math.max((white - black) * widen, 1), 4 * span);
    const direction = this.isNegative ? 1 : -1;
    const middle = (black + white) / 2 + direction * brighten * width;
    const level = Math.min(Math.max(middle, this.range[0] - span), this.range[1] + span);
    this.window = [level - width / 2, level + width / 2];
    this.preset = "own";
    this.draw(true);
  }

  // --- drawing ----------------------------------------------------------------------------------

  /** Draw with the next frame; ``roughly`` while the window moves, and in full once it rests. */
  draw(roughly = false) {
    if (!this.drawn) return;
    const quick = roughly && this.rough;
    clearTimeout(this.settling);
    if (quick) this.settling = setTimeout(() => this.draw(), SETTLED_AFTER);
    this.quick = quick;
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      if (this.drawn) this.drawNow();
    });
  }

  drawNow() {
    const { viewport } = this.drawn;
    const [black, white] = this.window;
    // PS3.3 C.11.2.1.2: a LINEAR window of this centre and width is black at one end and white at the other
    viewport.voi = { windowWidth: white - black + 1, windowCenter: (black + white + 1) / 2 };
    viewport.invert = this.isNegative;
    this.canvas.getContext("2d").imageSmoothingQuality = "high";
    renderGrayscaleImage(this.quick ? this.roughly() : this.drawn, false);
    this.placeMarks();
    this.drawLens();
    this.tell();
  }

  /** The same view of the film's smaller copy. */
  roughly() {
    const { viewport } = this.drawn;
    const { step, viewport: own } = this.rough;
    const { x, y } = viewport.translation;
    this.rough.viewport = { ...viewport, displayedArea: own.displayedArea, scale: viewport.scale * step, translation: { x: x / step, y: y / step } };
    return this.rough;
  }

  /** From pixels of what was sent to pixels of the page, as the six numbers of a matrix. */
  matrix() {
    return calculateTransform(this.drawn).getMatrix().map((number) => number / this.dots);
  }

  /** How many pixels that were sent make one of the whole film, across and down. */
  get share() {
    const { width, height, film_width, film_height } = this.stored;
    return [width / film_width, height / film_height];
  }

  tell() {
    const { slope, intercept, bits, width, film_width } = this.stored;
    const [black, white] = this.window.map((end) => Math.round(end * slope + intercept)).sort((a, b) => a - b);
    const { rotation, scale } = this.drawn.viewport;
    const number = new Intl.NumberFormat(document.documentElement.lang || undefined, { maximumFractionDigits: 0 });
    const said = [`${this.words.wordsWindow} ${number.format(black)} – ${number.format(white)}`, `${this.words.wordsZoom} ${number.format(100 * scale * width / film_width)} %`];
    if (rotation) said.push(`${rotation}°`);
    if (this.inverted) said.push(this.words.wordsInverted);
    said.push(`${bits} ${this.words.wordsBits}`);
    if (width < film_width) said.push(this.words.wordsReduced);
    this.element.querySelector(".pane__state").textContent = said.join(" · ");
    this.element.dispatchEvent(new CustomEvent("drawn", { bubbles: true }));
  }

  say(words) {
    this.element.querySelector(".pane__news").textContent = words;
  }

  // --- magnifier --------------------------------------------------------------------------------

  /** Hold the magnifier at a point, shares of the pane; nowhere: put it away. */
  magnify(at) {
    this.lensAt = at;
    this.lens.hidden = !at || !this.drawn;
    if (this.drawn) this.drawLens();
  }

  moveLens(x, y) {
    const at = this.lensAt ?? { x: .5, y: .5 };
    this.magnify({ x: Math.min(Math.max(at.x + x, 0), 1), y: Math.min(Math.max(at.y + y, 0), 1), above: at.above });
  }

  drawLens() {
    if (!this.lensAt) return;
    const { x, y, above } = this.lensAt;
    const { clientWidth, clientHeight } = this.element;
    const wide = Math.min(LENS_SIZE, .8 * clientWidth, .8 * clientHeight);
    const size = Math.round(wide * this.dots);
    this.lens.width = this.lens.height = size;
    // Above a finger, which would cover what it points at
    const lift = above ? wide * .72 : 0;
    const style = { width: wide, height: wide, left: x * clientWidth - wide / 2, top: Math.max(y * clientHeight - wide / 2 - lift, -wide / 3) };
    for (const [name, length] of Object.entries(style)) this.lens.style[name] = `${length}px`;
    const source = (this.quick ? this.rough : this.drawn).renderingTools.renderCanvas;
    if (!source) return;
    const pen = this.lens.getContext("2d");
    pen.fillStyle = "black";
    pen.fillRect(0, 0, size, size);
    const [a, b, c, d, e, f] = calculateTransform(this.quick ? this.rough : this.drawn).getMatrix().map((number) => number * LENS_ZOOM);
    const px = x * this.canvas.width * LENS_ZOOM, py = y * this.canvas.height * LENS_ZOOM;
    pen.setTransform(a, b, c, d, e - px + size / 2, f - py + size / 2);
    pen.drawImage(source, 0, 0);
  }

  // --- what the computer marked -----------------------------------------------------------------

  drawMarks() {
    const { map, regions, peak } = this.film;
    const { film_width: width, film_height: height } = this.stored;
    this.marks.replaceChildren();
    this.map = this.outlines = null;
    this.turned = add(this.marks, "g", { class: "pane__turned" });
    if (map) {
      this.map = add(this.turned, "image", { class: "pane__map", href: map, width, height, preserveAspectRatio: "none" });
      this.outlines = add(this.turned, "g", { class: "pane__outlines" });
      outlinesOf(map, width, height).then((paths) => this.film?.map === map && this.drawOutlines(paths), () => {});
    }
    const boxes = add(this.turned, "g", { class: "pane__regions" });
    this.labels = add(this.marks, "g", { class: "pane__regions" });
    for (const region of regions) {
      const box = { x: region.x, y: region.y, width: region.width, height: region.height };
      add(boxes, "rect", { class: "region region--under", ...box });
      add(boxes, "rect", { class: "region", ...box });
      add(this.labels, "text", { class: "region__zone" }).textContent = region.words;
    }
    if (peak) {
      add(this.labels, "circle", { class: "peak peak--under", r: 9 });
      add(this.labels, "circle", { class: "peak", r: 9 });
    }
    this.showMarks();
  }

  drawOutlines(paths) {
    this.outlines.replaceChildren();
    paths.forEach((path, level) => {
      add(this.outlines, "path", { class: "outline outline--under", d: path });
      add(this.outlines, "path", { class: `outline outline--${level}`, d: path });
    });
  }

  /** @param {{strength: number, outline: boolean, regions: boolean}} [shown] */
  showMarks(shown = this.shown) {
    this.shown = shown;
    this.map?.setAttribute("opacity", shown.outline ? 0 : shown.strength / 100);
    this.outlines?.setAttribute("opacity", shown.outline ? Math.min(1, .35 + shown.strength / 100) : 0);
    this.outlines?.setAttribute("visibility", shown.outline && shown.strength ? "visible" : "hidden");
    for (const group of this.marks.querySelectorAll(".pane__regions")) {
      group.setAttribute("visibility", shown.regions ? "visible" : "hidden");
    }
    this.draw();
  }

  /** Marks go with the film; words and the ring keep their size and stay upright. */
  placeMarks() {
    if (!this.turned) return;
    const [a, b, c, d, e, f] = this.matrix();
    const [across, down] = this.share;
    this.turned.setAttribute("transform", `matrix(${a * across} ${b * across} ${c * down} ${d * down} ${e} ${f})`);
    const onPage = (x, y) => [a * across * x + c * down * y + e, b * across * x + d * down * y + f];
    const texts = this.labels.querySelectorAll("text");
    const { clientWidth, clientHeight } = this.element;
    this.film.regions.forEach((region, number) => {
      const corners = [onPage(region.x, region.y), onPage(region.x + region.width, region.y + region.height)];
      const [left, right] = corners.map(([x]) => x).sort((one, other) => one - other);
      const [top, bottom] = corners.map(([, y]) => y).sort((one, other) => one - other);
      const seen = right > 0 && left < clientWidth && bottom > 0 && top < clientHeight;
      const outer = (left + right) / 2 > clientWidth / 2;
      const x = outer ? Math.min(right, clientWidth - EDGE) : Math.max(left, EDGE);
      set(texts[number], { x, y: Math.max(top, EDGE + LABEL_HEIGHT) - EDGE, "text-anchor": outer ? "end" : "start", display: seen ? "inline" : "none" });
    });
    if (!this.film.peak) return;
    const [x, y] = onPage(...this.film.peak);
    for (const ring of this.labels.querySelectorAll("circle")) set(ring, { cx: x, cy: y });
  }
}

// --- values ---------------------------------------------------------------------------------------

/** What `app.pictures.film_values` wrote, with the values as an array. */
export function storedValues(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const said = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const values = said.bytes === 1 ? new Uint8Array(buffer, 4 + length) : new Uint16Array(buffer, 4 + length);
  if (values.length !== said.width * said.height) throw new Error("the film is incomplete");
  return { ...said, values };
}

let count = 0;

/** What the renderer calls an enabled element: a picture, a canvas, and how the one lies on the other. */
function enabled(canvas, values, width, height, [low, high]) {
  const image = {
    imageId: `film-${count += 1}`,
    width, height, columns: width, rows: height, color: false,
    minPixelValue: low, maxPixelValue: high, slope: 1, intercept: 0,
    rowPixelSpacing: 1, columnPixelSpacing: 1,
    voxelManager: { getScalarData: () => values },
  };
  const viewport = {
    scale: 1, translation: { x: 0, y: 0 }, rotation: 0, hflip: false, vflip: false, invert: false, pixelReplication: false,
    voi: { windowWidth: high - low + 1, windowCenter: (low + high + 1) / 2 },
    displayedArea: { tlhc: { x: 1, y: 1 }, brhc: { x: width, y: height }, rowPixelSpacing: 1, columnPixelSpacing: 1, presentationSizeMode: "NONE" },
  };
  return { canvas, image, viewport, renderingTools: {} };
}

function extremes(values) {
  let low = values[0], high = values[0];
  for (let i = 1; i < values.length; i += 1) {
    const value = values[i];
    if (value < low) low = value;
    else if (value > high) high = value;
  }
  return [low, high];
}

function everyNth(values, width, height, step) {
  const columns = Math.floor(width / step), rows = Math.floor(height / step);
  const taken = new values.constructor(columns * rows);
  for (let row = 0, at = 0; row < rows; row += 1) {
    const line = row * step * width;
    for (let column = 0; column < columns; column += 1, at += 1) taken[at] = values[line + column * step];
  }
  return { values: taken, width: columns, height: rows };
}

/** Values below which these shares of the film's middle lie. */
function quantiles(values, width, height, shares) {
  const step = Math.max(1, Math.round(Math.max(width, height) / 512));
  const sample = [];
  for (let row = Math.floor(height * .12); row < height * .88; row += step) {
    for (let column = Math.floor(width * .12); column < width * .88; column += step) sample.push(values[row * width + column]);
  }
  sample.sort((a, b) => a - b);
  return shares.map((share) => sample[Math.min(sample.length - 1, Math.floor(share * sample.length))] ?? 0);
}

// --- shapes ---------------------------------------------------------------------------------------

/** Lines of equal heat, in film pixels, read off the map's picture: its opacity is its heat. */
async function outlinesOf(address, width, height) {
  const picture = new Image();
  picture.src = address;
  await picture.decode();
  const scale = OUTLINE_SIDE / Math.max(width, height);
  const columns = Math.max(2, Math.round(width * scale)), rows = Math.max(2, Math.round(height * scale));
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: columns, height: rows });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(picture, 0, 0, columns, rows);
  const { data } = pen.getImageData(0, 0, columns, rows);
  const heat = Array.from({ length: columns * rows }, (_, place) => CLEAR_BELOW + data[4 * place + 3] / 255 * (FULL_FROM - CLEAR_BELOW));
  const lines = contours().size([columns, rows]).thresholds(OUTLINES.map((level) => Math.min(level, FULL_FROM - .01)))(heat);
  const point = ([x, y]) => `${(x * width / columns).toFixed(1)} ${(y * height / rows).toFixed(1)}`;
  return lines.map(({ coordinates }) => coordinates.flat().map((ring) => `M${ring.map(point).join("L")}Z`).join(""));
}

function add(parent, name, attributes) {
  const element = document.createElementNS(SVG, name);
  set(element, attributes);
  return parent.appendChild(element);
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
}
