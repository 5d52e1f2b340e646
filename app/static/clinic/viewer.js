// The viewer's page: tools, keys, pointer and touch, for one film or for two beside each other.
import { FilmPane } from "./film_pane.js";

const ZOOM_STEP = 1.25;
const PAN_STEP = .06;
const WINDOW_STEP = .08;
const WHEEL = .0016;
const PRESETS = ["start", "file", "whole", "lungs", "bones"];

/** Map of tools to what they do with a film; all films in play get the same. */
const ON_FILMS = {
  "zoom-in": (pane) => pane.zoom(ZOOM_STEP),
  "zoom-out": (pane) => pane.zoom(1 / ZOOM_STEP),
  fit: (pane) => pane.fit(),
  actual: (pane) => pane.actual(),
  turn: (pane) => pane.turn(90),
  "turn-back": (pane) => pane.turn(-90),
  invert: (pane) => pane.invert(),
  reset: (pane) => pane.reset(),
};

class Viewer {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    this.films = new Map(JSON.parse(root.dataset.films).map((film) => [String(film.id), film]));
    this.panes = ["first", "second"].map((id) => new FilmPane(document.getElementById(id), root.dataset));
    this.active = this.panes[0];
    this.hand = "move";
    this.together = true;
    this.magnifying = false;
    this.strength = null;
    this.outline = false;
    this.regions = true;
    this.wire();
    root.hidden = false;
    this.open(this.panes[0], this.field("film").value);
    if (this.field("beside").value) this.compare(this.field("beside").value);
  }

  field(id) {
    return document.getElementById(id);
  }

  tool(name) {
    return this.root.querySelector(`[data-tool="${name}"]`);
  }

  wire() {
    for (const button of this.root.querySelectorAll("[data-tool]")) {
      button.addEventListener("click", () => this.use(button.dataset.tool));
    }
    this.field("preset").addEventListener("change", (event) => this.choose(event.target.value));
    this.field("film").addEventListener("change", (event) => this.open(this.panes[0], event.target.value));
    this.field("beside").addEventListener("change", (event) => this.compare(event.target.value));
    this.field("map").addEventListener("input", (event) => {
      this.strength = Number(event.target.value);
      this.showMarks();
    });
    for (const pane of this.panes) {
      follow(pane, this);
      pane.element.addEventListener("drawn", () => this.reflect());
      pane.element.addEventListener("focus", () => this.activate(pane));
    }
    document.addEventListener("keydown", (event) => this.key(event));
  }

  // --- films ------------------------------------------------------------------------------------

  /** The panes with a film in them. */
  get open_() {
    return this.panes.filter((pane) => pane.film);
  }

  /** The panes that a tool works on: all of them while they move together. */
  get inPlay() {
    return this.together ? this.open_ : this.open_.filter((pane) => pane === this.active);
  }

  async open(pane, id, whole = false) {
    const shown = await pane.show(this.films.get(String(id)), whole);
    if (!shown) return;
    // A film that the answer calls clear is shown bare at first, as on the study's page
    if (this.strength === null) this.regions = Boolean(pane.film.map_strength);
    this.strength ??= pane.film.map_strength;
    if (!this.together) this.activate(pane);
    this.showMarks();
    if (this.magnifying) pane.magnify({ x: .5, y: .5 });
  }

  async compare(id) {
    const [, second] = this.panes;
    second.element.hidden = !id;
    this.root.classList.toggle("viewer--two", Boolean(id));
    if (id) return this.open(second, id);
    second.clear();
    this.activate(this.panes[0]);
    this.showMarks();
  }

  activate(pane) {
    if (!pane.film) return;
    this.active = pane;
    for (const each of this.panes) each.element.classList.toggle("pane--active", each === pane && !this.together && this.open_.length > 1);
    this.reflect();
  }

  // --- tools ------------------------------------------------------------------------------------

  use(name) {
    if (ON_FILMS[name]) return this.inPlay.forEach(ON_FILMS[name]);
    if (name === "move" || name === "window") this.hand = name;
    if (name === "magnifier") this.magnify(!this.magnifying);
    if (name === "outline") this.outline = !this.outline;
    if (name === "regions") this.regions = !this.regions;
    if (name === "together") this.together = !this.together;
    if (name === "keys") this.field("keys").showModal();
    if (name === "detail") this.inPlay.forEach((pane) => isReduced(pane) && this.open(pane, pane.film.id, true));
    if (name === "outline" && this.outline && !this.strength) this.strength = 50;
    this.activate(this.active);
    this.showMarks();
  }

  choose(name) {
    this.inPlay.forEach((pane) => pane.choose(name));
    this.reflect();
  }

  magnify(on) {
    this.magnifying = on;
    this.open_.forEach((pane) => pane.magnify(on ? pane.lensAt ?? { x: .5, y: .5 } : null));
  }

  /** Hold the magnifier over the same place of every film in play. */
  point(pane, at) {
    if (!this.magnifying) return;
    (this.together ? this.open_ : [pane]).forEach((each) => each.magnify(at));
  }

  showMarks() {
    const marked = this.open_.some((pane) => pane.film.map || pane.film.peak);
    this.field("marks").hidden = !marked;
    const shown = { strength: this.strength ?? 0, outline: this.outline, regions: this.regions };
    this.open_.forEach((pane) => pane.showMarks(shown));
    this.reflect();
  }

  /** Let tools and words say what is the case. */
  reflect() {
    const { wordsOff, wordsMap } = this.root.dataset;
    const pressed = { move: this.hand === "move", window: this.hand === "window", magnifier: this.magnifying, outline: this.outline, regions: this.regions, together: this.together, invert: Boolean(this.active.inverted) };
    for (const [name, on] of Object.entries(pressed)) this.tool(name).setAttribute("aria-pressed", String(on));
    for (const pane of this.panes) pane.element.dataset.hand = this.magnifying ? "magnifier" : this.hand;
    this.tool("together").hidden = this.open_.length < 2;
    this.tool("detail").hidden = !this.open_.some(isReduced);
    const slider = this.field("map");
    const words = this.strength ? `${this.strength} %` : wordsOff;
    slider.value = String(this.strength ?? 0);
    slider.setAttribute("aria-valuetext", `${wordsMap} ${words}`);
    this.field("map-value").textContent = words;
    const { film, stored, preset } = this.active;
    if (!film) return;
    const hasMap = this.open_.some((pane) => pane.film.map);
    for (const id of ["map-strength", "map-scale"]) this.field(id).hidden = !hasMap;
    this.field("map-scale").hidden = !hasMap || this.outline;
    this.tool("outline").hidden = !hasMap;
    const presets = this.field("preset");
    presets.querySelector("[value=file]").disabled = !stored.window;
    presets.querySelector("[value=own]").hidden = preset !== "own";
    presets.value = preset;
    this.field("zones").replaceChildren(...film.regions.map((region) => Object.assign(document.createElement("li"), { textContent: region.words })));
    this.field("hit-rate").textContent = film.hit_rate;
  }

  // --- keys -------------------------------------------------------------------------------------

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || this.field("keys").open) return;
    const typing = event.target.closest("select, input, summary, [contenteditable]");
    if (typing || !this.active.film) return;
    const done = event.key.startsWith("Arrow") ? this.arrow(event) : this.letter(event);
    if (done) event.preventDefault();
  }

  arrow({ key, shiftKey, target }) {
    // In the row of tools the arrows go from tool to tool
    if (target.closest(".tools")) return this.step(target, key);
    const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    for (const pane of this.inPlay) {
      if (shiftKey) pane.adjust(1 + x * WINDOW_STEP, -y * WINDOW_STEP);
      else if (this.magnifying) pane.moveLens(x * PAN_STEP / 2, y * PAN_STEP / 2);
      else pane.pan(-x * PAN_STEP, -y * PAN_STEP);
    }
    return true;
  }

  /** The next or previous tool, as the eye goes in the language of the page. */
  step(target, key) {
    const tools = [...this.root.querySelectorAll(".tools button, .tools select, .tools input")].filter((tool) => tool.offsetParent);
    const onward = key === "ArrowDown" || key === (getComputedStyle(target).direction === "rtl" ? "ArrowLeft" : "ArrowRight");
    const next = tools[tools.indexOf(target) + (onward ? 1 : -1)];
    next?.focus();
    return Boolean(next);
  }

  letter(event) {
    const name = latin(event);
    const tools = { "+": "zoom-in", "=": "zoom-in", "-": "zoom-out", 0: "fit", 1: "actual", v: "move", w: "window", m: "magnifier", r: event.shiftKey ? "turn-back" : "turn", i: "invert", o: "outline", g: "regions", t: "together", d: "detail", "?": "keys", escape: "reset" };
    const preset = PRESETS[Number(name) - 2];
    if (preset) this.choose(preset);
    else if (tools[name] && !this.tool(tools[name])?.hidden) this.use(tools[name]);
    else if (name === "k") this.strengthen(event.shiftKey ? -10 : 10);
    else if (name === "c") this.field("beside").focus();
    else return false;
    return true;
  }

  strengthen(by) {
    this.strength = Math.min(Math.max((this.strength ?? 0) + by, 0), 100);
    this.showMarks();
  }
}

function isReduced(pane) {
  return Boolean(pane.stored) && pane.stored.width < pane.stored.film_width;
}

/** The key that was pressed; on keyboards of other scripts, the Latin letter or digit in its place. */
function latin({ key, code }) {
  if (key === "؟" || key === "?") return "?";
  if (/^[\x20-\x7e]$/.test(key) || key.length > 1) return key.toLowerCase();
  return (/^(?:Key|Digit|Numpad)(.)$/.exec(code)?.[1] ?? "").toLowerCase();
}

// --- mouse, pen and fingers -------------------------------------------------------------------------

/** Let a pane be dragged, pinched, wheeled and pointed at. @param {FilmPane} pane  @param {Viewer} viewer */
function follow(pane, viewer) {
  const { element } = pane;
  const pointers = new Map();
  let pulled = "";

  const share = (event) => {
    const box = element.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  };
  const all = (act) => {
    const panes = viewer.together ? viewer.open_ : [pane];
    panes.forEach(act);
  };

  element.addEventListener("pointerdown", (event) => {
    if (event.button > 2 || !pane.film) return;
    element.focus({ preventScroll: true });
    element.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, share(event));
    pulled = event.button === 2 || event.shiftKey ? "window" : event.button === 1 ? "move" : viewer.magnifying ? "magnifier" : viewer.hand;
    if (viewer.magnifying) viewer.point(pane, { ...share(event), above: event.pointerType === "touch" });
    event.preventDefault();
  });

  element.addEventListener("pointermove", (event) => {
    const at = share(event);
    if (viewer.magnifying && event.pointerType !== "touch") viewer.point(pane, at);
    const before = pointers.get(event.pointerId);
    if (!before) return;
    if (pointers.size === 2) pinch(event.pointerId, at);
    else if (pulled === "magnifier") viewer.point(pane, { ...at, above: event.pointerType === "touch" });
    else if (pulled === "window") all((each) => each.adjust(Math.exp((at.x - before.x) * 2.5), before.y - at.y));
    else all((each) => each.pan(at.x - before.x, at.y - before.y));
    pointers.set(event.pointerId, at);
  });

  const pinch = (id, at) => {
    const { clientWidth: width, clientHeight: height } = element;
    const before = pointers.get(id);
    const other = [...pointers].find(([each]) => each !== id)[1];
    const apart = (point) => Math.hypot((point.x - other.x) * width, (point.y - other.y) * height);
    const middle = { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 };
    all((each) => {
      each.pan((at.x - before.x) / 2, (at.y - before.y) / 2);
      each.zoom(apart(at) / Math.max(apart(before), 1), middle.x, middle.y);
    });
  };

  for (const end of ["pointerup", "pointercancel"]) {
    element.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  element.addEventListener("wheel", (event) => {
    const { x, y } = share(event);
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    const fingers = event.ctrlKey ? 5 : 1;
    all((each) => each.zoom(Math.exp(-event.deltaY * lines * fingers * WHEEL), x, y));
    event.preventDefault();
  }, { passive: false });
  element.addEventListener("dblclick", (event) => {
    const { x, y } = share(event);
    if (!viewer.magnifying) all((each) => each.fitted ? each.actual(x, y) : each.fit());
  });
  element.addEventListener("contextmenu", (event) => event.preventDefault());
}

const root = document.getElementById("viewer");
// After the first paint: the page is there before its film.
if (root) requestAnimationFrame(() => setTimeout(() => new Viewer(root)));
