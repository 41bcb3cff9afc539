// An image with boxes that people draw, move and name, and with those that the model found.
// Boxes are in pixels of the image. `objects` is a list of {name, box or null}; onChange is called after every change.

import { colourOf, inkOn } from "./colours.js";
import { element, shape } from "./dom.js";

const LEAST_PX = 4;
const MAX_HEIGHT_VH = 76;
const LABEL_PX = 14;
const LABEL_FONT = 'system-ui, "DejaVu Sans", sans-serif'; // as in style.css
const CORNERS = [[0, 1], [2, 1], [2, 3], [0, 3]];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Stage {
  constructor(place, list, onChange) {
    this.place = place;
    this.list = list;
    this.onChange = onChange;
    this.objects = [];
    this.results = [];
    this.selected = null;
    this.image = element("img", { alt: "" });
    this.svg = shape("svg", { "aria-label": "Boxes", role: "group" });
    place.replaceChildren(this.image, this.svg);
    this.svg.addEventListener("pointerdown", (event) => this.startDrag(event));
    new ResizeObserver(() => this.draw()).observe(this.image);
  }

  async show(address, alt) {
    if (this.address) URL.revokeObjectURL(this.address);
    this.address = this.image.src = address;
    this.image.alt = alt;
    await this.image.decode();
    this.width = this.image.naturalWidth;
    this.height = this.image.naturalHeight;
    this.place.style.maxWidth = `${(MAX_HEIGHT_VH * this.width) / this.height}vh`;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.set([]);
  }

  set(objects) {
    this.objects = objects;
    this.results = [];
    this.selected = null;
    this.redraw();
  }

  add(name, box) {
    const thing = { name, box };
    this.objects.push(thing);
    this.selected = thing;
    this.changed();
    return thing;
  }

  addInTheMiddle(name) {
    const box = [0.35, 0.35, 0.65, 0.65].map((v, i) => Math.round(v * (i % 2 ? this.height : this.width)));
    return this.add(name, box);
  }

  remove(thing) {
    this.objects = this.objects.filter((o) => o !== thing);
    this.selected = null;
    this.changed();
  }

  changed() {
    this.results = []; // they were of other objects
    this.redraw();
    this.onChange();
  }

  setResults(results) {
    this.results = results;
    this.draw();
  }

  focusName(thing) {
    this.list.children[this.objects.indexOf(thing)]?.querySelector("input").focus();
  }

  redraw() {
    this.draw();
    this.list.replaceChildren(...this.objects.map((thing) => this.listItem(thing)));
  }

  listItem(thing) {
    const name = element("input", { value: thing.name, maxlength: 80, list: "names", "aria-label": "Name of the thing", autocomplete: "off" });
    name.addEventListener("input", () => {
      thing.name = name.value;
      this.results = [];
      this.draw();
      this.onChange();
    });
    name.addEventListener("focus", () => this.select(thing));
    const size = thing.box ? `${Math.round(thing.box[2] - thing.box[0])} × ${Math.round(thing.box[3] - thing.box[1])} px` : "by its name";
    const buttons = [element("button", { type: "button", class: "plain", "aria-label": `Remove ${thing.name || "the thing"}`, onclick: () => this.remove(thing) }, "✕")];
    return element("li", { class: thing === this.selected ? "selected" : null }, name, element("span", {}, size), ...buttons);
  }

  select(thing) {
    if (this.selected === thing) return;
    this.selected = thing;
    [...this.list.children].forEach((item, i) => item.classList.toggle("selected", this.objects[i] === thing));
    this.draw();
  }

  // --- drawing ---

  draw() {
    if (!this.width) return;
    const focused = this.svg.contains(document.activeElement) ? this.selected : null;
    const unit = this.width / (this.image.clientWidth || this.width); // pixels of the image in a pixel of the screen
    const labels = [];
    const boxes = [];
    this.results.filter((r) => r.seen && !r.box && r.found_at).forEach((r) => boxes.push(this.foundBox(r, unit, labels)));
    this.objects.filter((o) => o.box).forEach((o) => boxes.push(this.ownBox(o, unit, labels)));
    // names lie above every box, and what is dragged above them
    this.svg.replaceChildren(...boxes, ...labels.map((label) => label.drawn), ...(this.selected?.box ? [this.handles(this.selected, unit)] : []));
    if (focused) this.svg.querySelector(".selected")?.focus();
  }

  ownBox(thing, unit, labels) {
    const result = this.results.find((r) => r.box && r.name === thing.name && r.box.every((v, i) => Math.abs(v - thing.box[i]) < 0.5));
    const selected = thing === this.selected;
    const group = shape("g", { class: `own${selected ? " selected" : ""}`, tabindex: 0, role: "button",
      "aria-label": `Box of ${thing.name || "a thing without a name"}`, "aria-pressed": String(selected) });
    group.append(...this.boxShapes(thing.box, result));
    this.label(thing.name || "?", thing.box, result, unit, labels, thing);
    group.addEventListener("focus", () => this.select(thing));
    group.addEventListener("keydown", (event) => this.onKey(event, thing));
    group.thing = thing;
    return group;
  }

  // The corners of a box, by which its size is changed.
  handles(thing, unit) {
    const circles = CORNERS.map(([x, y]) => shape("circle", { cx: thing.box[x], cy: thing.box[y], r: 7 * unit, "data-x": x, "data-y": y }));
    const group = shape("g", { class: "hold" }, ...circles);
    group.thing = thing;
    return group;
  }

  foundBox(result, unit, labels) {
    this.label(result.name, result.found_at, result, unit, labels, null);
    return shape("g", { class: "found" }, ...this.boxShapes(result.found_at, result));
  }

  boxShapes([x1, y1, x2, y2], result) {
    const place = { x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
    const stroke = result ? (result.seen ? colourOf(result.depth) : "#9aa1a8") : "#fff";
    const halo = result?.seen ? (inkOn(result.depth) === "#000" ? "#14181c" : "#fff") : "#14181c";
    return [shape("rect", { class: "halo", stroke: halo, ...place }), shape("rect", { class: "edge", ...place, stroke })];
  }

  // Adds the name above the box, moved down until it lies on no other; `thing` is what is dragged by it.
  label(name, [x1, y1], result, unit, labels, thing) {
    const shown = name.length > 28 ? `${name.slice(0, 27)}…` : name;
    const text = !result ? shown : result.seen ? `${shown}${result.name_doubted ? "?" : ""} ${result.depth.toFixed(2)} ± ${result.depth_stddev.toFixed(2)}` : `${shown}: not seen`;
    const width = (widthOf(text) + 0.8 * LABEL_PX) * unit, height = 1.4 * LABEL_PX * unit;
    const x = Math.max(0, Math.min(x1, this.width - width));
    let y = Math.max(0, y1 - height);
    while (labels.some((o) => x < o.x + o.width && o.x < x + width && y < o.y + height && o.y < y + height)) y += height;
    const fill = result?.seen ? colourOf(result.depth) : "#fff";
    const drawn = shape("g", { class: thing ? "hold" : "found" }, shape("rect", { x, y, width, height, fill }),
      shape("text", { x: x + 0.4 * LABEL_PX * unit, y: y + LABEL_PX * unit, "font-size": LABEL_PX * unit, fill: result?.seen ? inkOn(result.depth) : "#14181c" }, text));
    drawn.thing = thing;
    labels.push({ x, y, width, drawn });
  }

  // --- pointer and keys ---

  at(event) {
    const frame = this.svg.getBoundingClientRect();
    const x = ((event.clientX - frame.left) / frame.width) * this.width, y = ((event.clientY - frame.top) / frame.height) * this.height;
    return [Math.min(this.width, Math.max(0, x)), Math.min(this.height, Math.max(0, y))];
  }

  startDrag(event) {
    if (!this.width || event.button !== 0) return;
    event.preventDefault();
    const start = this.at(event);
    const group = event.target.closest("g.own, g.hold");
    const corner = event.target.dataset?.x === undefined ? null : [Number(event.target.dataset.x), Number(event.target.dataset.y)];
    let thing = group?.thing ?? null, before = thing?.box.slice();
    if (thing) this.select(thing);
    const move = (now) => {
      const [x, y] = this.at(now);
      if (!thing) {
        if (Math.hypot(x - start[0], y - start[1]) < LEAST_PX) return;
        thing = { name: "", box: null };
        this.objects.push(thing);
        this.selected = thing;
      }
      thing.box = !before ? ordered([...start, x, y]) : corner ? this.resized(before, corner, x, y) : this.shifted(before, x - start[0], y - start[1]);
      this.results = [];
      this.redraw();
    };
    const end = () => {
      window.removeEventListener("pointermove", move);
      if (!thing?.box) return;
      const drawn = !before;
      if (drawn && (thing.box[2] - thing.box[0] < LEAST_PX || thing.box[3] - thing.box[1] < LEAST_PX)) return this.remove(thing);
      if (drawn || before.some((v, i) => v !== thing.box[i])) this.changed();
      if (drawn) this.focusName(thing);
      else this.svg.querySelector(".selected")?.focus();
    };
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", end, { once: true });
  }

  onKey(event, thing) {
    if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      return this.remove(thing);
    }
    const arrow = ARROWS[event.key];
    if (!arrow) return;
    event.preventDefault();
    const step = Math.max(1, Math.round(this.width / 200));
    const [dx, dy] = arrow.map((v) => v * step);
    thing.box = event.shiftKey ? this.resized(thing.box, [2, 3], thing.box[2] + dx, thing.box[3] + dy) : this.shifted(thing.box, dx, dy);
    this.changed();
  }

  shifted([x1, y1, x2, y2], dx, dy) {
    const x = Math.min(this.width - x2, Math.max(-x1, dx)), y = Math.min(this.height - y2, Math.max(-y1, dy));
    return [x1 + x, y1 + y, x2 + x, y2 + y].map(tenth);
  }

  resized(box, [ix, iy], x, y) {
    const made = box.slice();
    made[ix] = Math.min(this.width, Math.max(0, x));
    made[iy] = Math.min(this.height, Math.max(0, y));
    const sorted = ordered(made);
    return sorted[2] - sorted[0] < LEAST_PX || sorted[3] - sorted[1] < LEAST_PX ? box : sorted;
  }
}

const pen = document.createElement("canvas").getContext("2d");
function widthOf(text) {
  pen.font = `${LABEL_PX}px ${LABEL_FONT}`;
  return pen.measureText(text).width;
}

const tenth = (v) => Math.round(10 * v) / 10;
const ordered = ([a, b, c, d]) => [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)].map(tenth);
