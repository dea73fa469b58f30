// The reading pane: zoom, pan, both eyes, red-free, brightness and contrast, and the map over the photograph.

const LARGEST_SCALE = 8;  // device pixels for each pixel of the photograph
const STEP = 1.25;
const MAGNIFIED = 2.5;  // relative to the whole photograph

function pick(selector) { return document.querySelector(selector); }

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** One pane: a square photograph, and the map that covers it, moved and scaled by the reader. */
class Pane {
  constructor(element) {
    this.element = element;
    this.stage = element.querySelector(".stage");
    this.photograph = element.querySelector(".photograph");
    this.readout = element.querySelector(".readout");
    this.pointers = new Map();
    this.scale = this.x = this.y = 0;
    this.isWhole = true;
    this.photograph.addEventListener("load", () => this.showWhole());
    new ResizeObserver(() => (this.isWhole ? this.showWhole() : this.apply())).observe(element);
    element.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    element.addEventListener("pointerdown", (event) => this.onPointerDown(event));
    element.addEventListener("pointermove", (event) => this.onPointerMove(event));
    for (const end of ["pointerup", "pointercancel"])
      element.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    element.addEventListener("dblclick", (event) => {
      if (this.isWhole) this.zoomTo(this.actualScale, ...this.locate(event)); else this.showWhole();
    });
    this.showWhole();
  }

  get side() { return this.photograph.naturalWidth; }

  /** CSS pixels for each pixel of the photograph at which it shows one of the screen's pixels. */
  get actualScale() { return 1 / devicePixelRatio; }

  get wholeScale() { return Math.min(this.element.clientWidth, this.element.clientHeight) / this.side; }

  showWhole() {
    if (!this.side) return;
    this.isWhole = true;
    this.scale = this.wholeScale;
    this.apply();
  }

  showActualSize() { this.zoomTo(this.actualScale); }

  toggleMagnified() { if (this.isWhole) this.zoomTo(this.wholeScale * MAGNIFIED); else this.showWhole(); }

  zoomBy(factor, x, y) { this.zoomTo(this.scale * factor, x, y); }

  /** Scale while the point (x, y) of the pane, its centre if not given, stays where it is. */
  zoomTo(scale, x = this.element.clientWidth / 2, y = this.element.clientHeight / 2) {
    if (!this.side) return;
    const smallest = Math.min(this.wholeScale, this.actualScale);
    const wanted = clamp(scale, smallest, Math.max(LARGEST_SCALE / devicePixelRatio, this.wholeScale));
    const factor = wanted / this.scale;
    this.x = x - (x - this.x) * factor;
    this.y = y - (y - this.y) * factor;
    this.scale = wanted;
    this.isWhole = Math.abs(wanted / this.wholeScale - 1) < 0.001;
    this.apply();
  }

  panBy(x, y) {
    this.x += x;
    this.y += y;
    this.apply();
  }

  apply() {
    if (!this.side) return;
    this.x = this.keepInside(this.x, this.element.clientWidth);
    this.y = this.keepInside(this.y, this.element.clientHeight);
    this.stage.style.width = this.stage.style.height = `${this.side}px`;
    this.stage.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.element.classList.toggle("zoomed", this.scale > this.wholeScale * 1.001);
    this.readout.textContent = `${Math.round(100 * this.scale * devicePixelRatio)} %`;
    this.element.dataset.scale = this.scale;
    this.stage.style.setProperty("--scale", this.scale);
  }

  /** Centre a photograph that is smaller than the pane, and leave no gap next to a larger one. */
  keepInside(offset, length) {
    const size = this.side * this.scale;
    return size <= length ? (length - size) / 2 : clamp(offset, length - size, 0);
  }

  locate(event) {
    const box = this.element.getBoundingClientRect();
    return [event.clientX - box.left - this.element.clientLeft, event.clientY - box.top - this.element.clientTop];
  }

  onWheel(event) {
    event.preventDefault();
    // A pinch on a touchpad arrives as a wheel with the control key.
    const speed = (event.ctrlKey ? 8 : 1) * (event.deltaMode === 1 ? 30 : 1);
    this.zoomBy(2 ** clamp(-event.deltaY * speed / 400, -1, 1), ...this.locate(event));
  }

  onPointerDown(event) {
    if (event.button !== 0) return;
    this.element.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.locate(event));
  }

  onPointerMove(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = this.locate(event);
    const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    if (other) {
      const distance = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
      this.zoomBy(distance(now) / Math.max(1, distance(before)), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    }
    const share = other ? 0.5 : 1;
    this.panBy((now[0] - before[0]) * share, (now[1] - before[1]) * share);
    this.pointers.set(event.pointerId, now);
  }
}

/** Photographs of the page in their panes, and the tools that change how they are shown. */
class Viewer {
  constructor() {
    this.panes = [new Pane(pick("#pane"))];
    this.look = { redFree: false, brightness: 100, contrast: 100 };
    this.slider = pick("#opacity");
    this.over = pick(".over");
    this.setUpMap();
    this.setUpLook();
    this.setUpSecondPane();
    pick("#whole").addEventListener("click", () => this.forEach((pane) => pane.showWhole()));
    pick("#actual").addEventListener("click", () => this.forEach((pane) => pane.showActualSize()));
    watchForErrors(this.panes[0].photograph);
  }

  forEach(action) { for (const pane of this.panes) action(pane); }

  get focused() { return this.panes.find((pane) => pane.element === document.activeElement) ?? this.panes[0]; }

  setUpMap() {
    if (!this.slider || !this.over) return;
    const show = () => {
      this.over.style.opacity = this.slider.value / 100;
      pick("#map").setAttribute("aria-pressed", String(this.slider.value > 0));
    };
    this.slider.addEventListener("input", show);
    pick("#map").addEventListener("click", () => this.toggleMap());
    show();
    // The photograph first: it is what a reader waits for.
    const { photograph } = this.panes[0];
    if (photograph.complete) this.loadMap(); else photograph.addEventListener("load", () => this.loadMap());
  }

  async loadMap() {
    if (!this.panes[0].side) return;
    const tint = this.over.querySelector(".tint");
    tint.src = tint.dataset.src;
    const response = await fetch(this.over.dataset.contours);
    if (!response.ok) return;
    const lines = new DOMParser().parseFromString(await response.text(), "image/svg+xml").documentElement;
    this.over.append(document.importNode(lines, true));
  }

  /** Hide the map, or show it as strong as it was before. */
  toggleMap() {
    if (!this.slider) return;
    const shown = Number(this.slider.value);
    if (shown > 0) this.strength = shown;
    this.slider.value = shown > 0 ? 0 : this.strength ?? 100;
    this.slider.dispatchEvent(new Event("input"));
  }

  setUpLook() {
    pick("#red-free").addEventListener("click", () => this.toggleRedFree());
    pick("#adjust").addEventListener("click", () => this.toggleAdjustments());
    for (const name of ["brightness", "contrast"])
      pick(`#${name}`).addEventListener("input", (event) => { this.look[name] = event.target.value; this.showLook(); });
    pick("#reset").addEventListener("click", () => {
      for (const name of ["brightness", "contrast"]) pick(`#${name}`).value = this.look[name] = 100;
      this.showLook();
    });
  }

  toggleRedFree() {
    this.look.redFree = !this.look.redFree;
    pick("#red-free").setAttribute("aria-pressed", String(this.look.redFree));
    this.showLook();
  }

  toggleAdjustments() {
    const controls = pick("#adjustments");
    controls.hidden = !controls.hidden;
    pick("#adjust").setAttribute("aria-expanded", String(!controls.hidden));
    (controls.hidden ? pick("#adjust") : pick("#brightness")).focus();
  }

  showLook() {
    const { redFree, brightness, contrast } = this.look;
    const filters = [redFree && "url(#green-channel)", brightness != 100 && `brightness(${brightness}%)`,
      contrast != 100 && `contrast(${contrast}%)`];
    this.forEach((pane) => { pane.photograph.style.filter = filters.filter(Boolean).join(" "); });
  }

  setUpSecondPane() {
    this.choice = pick("#other");
    if (!this.choice) return;
    pick("#both").addEventListener("click", () => this.toggleBoth());
    this.choice.addEventListener("change", () => this.showOther());
  }

  toggleBoth() {
    if (!this.choice) return;
    const side = pick("#second");
    side.hidden = !side.hidden;
    pick("#both").setAttribute("aria-pressed", String(!side.hidden));
    if (this.panes.length === 1) {
      this.panes.push(new Pane(pick("#second .pane")));
      this.panes[1].photograph.addEventListener("error", () => { pick("#second .missing").hidden = false; });
      this.showOther();
      this.showLook();
    }
  }

  showOther() {
    pick("#second .missing").hidden = true;
    const chosen = this.choice.selectedOptions[0];
    // As the patient is seen: the right eye on the left side.
    pick("#second").classList.toggle("before", chosen.dataset.eye === "right" && pick("#pane").dataset.eye === "left");
    this.panes[1].photograph.alt = chosen.textContent.trim();
    this.panes[1].photograph.src = this.choice.value;
  }
}

function watchForErrors(photograph) {
  const missing = () => {
    pick(".panes").hidden = pick(".tools").hidden = true;
    pick("#no-picture").hidden = false;
    showReason(photograph);
  };
  photograph.addEventListener("error", missing);
  if (photograph.complete && photograph.naturalWidth === 0) missing();
}

// The response that was not an image is an error page: show its message.
async function showReason(photograph) {
  const alone = pick(".alone");
  if (alone) {
    const overlay = alone.querySelector("img");
    overlay.src = overlay.dataset.src;
    alone.hidden = false;
  }
  const response = await fetch(photograph.src);
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const message = page.querySelector("main h1");
  if (message) pick("#no-picture .why").textContent = message.textContent;
}

const ARROWS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** Return the actions of the viewer by key; none on a page without a photograph. */
export function setUpViewer() {
  if (!pick("#pane")) return {};
  const viewer = new Viewer();
  for (const element of document.querySelectorAll(".pane"))
    element.addEventListener("keydown", (event) => {
      if (!Object.hasOwn(ARROWS, event.key) || event.ctrlKey || event.metaKey || event.altKey) return;
      const [x, y] = ARROWS[event.key];
      viewer.focused.panBy(x * element.clientWidth / 8, y * element.clientHeight / 8);
      event.preventDefault();
    });
  return {
    z: () => viewer.forEach((pane) => pane.toggleMagnified()),
    a: () => viewer.forEach((pane) => pane.showActualSize()),
    "+": () => viewer.forEach((pane) => pane.zoomBy(STEP)),
    "=": () => viewer.forEach((pane) => pane.zoomBy(STEP)),
    "-": () => viewer.forEach((pane) => pane.zoomBy(1 / STEP)),
    f: () => viewer.toggleRedFree(),
    b: () => viewer.toggleAdjustments(),
    e: () => viewer.toggleBoth(),
    o: () => viewer.toggleMap(),
    m: () => viewer.toggleMap(),
  };
}
