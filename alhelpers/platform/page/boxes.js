// Draws boxes on the image of an SVG by mouse, finger or key: on the platform's labelling page, and in the labelling
// panel of notebooks. It knows neither of them, and calls `changed` after whatever it does.
"use strict";

class BoxEditor {
  static reach = 8; // screen pixels around a side of a box that take hold of it
  static smallest = 4; // screen pixels; what is smaller is a click
  static arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  selected = null; // which of the boxes
  past = []; // what there was before each edit
  #drag = null; // what the mouse is doing
  #locked = false; // while the item is saved
  #warned = null; // at how many edits

  // svg: its viewBox is the image in pixels; null if there is no image.
  // boxes: {label, box: [left, top, right, bottom], suggested, confidence}; what else is in them is kept.
  // colours: a Map of the classes. label: the class of the next box.
  constructor(svg, { boxes, colours, label, editable = true, changed }) {
    Object.assign(this, { svg, colours, changed, boxes: structuredClone(boxes) });
    this.label = colours.has(label) ? label : ([...colours.keys()][0] ?? null);
    if (!svg) return;
    [this.width, this.height] = [svg.viewBox.baseVal.width, svg.viewBox.baseVal.height];
    Object.assign(svg.style, { userSelect: "none", overflow: "visible" }); // so that handles at the edge are seen whole
    // Lines and texts keep their size on the screen. It also runs when the image is first there.
    new ResizeObserver(() => this.#draw()).observe(svg);
    if (!editable) return;
    for (const name of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) {
      svg.addEventListener(name, (event) => event.isPrimary && this.#onPointer(event));
    }
  }

  show() {
    this.#draw();
    this.changed();
  }

  // ------------------------------------------------------------------------------------------------------- editing

  // The class of the selected box, or else of the next one.
  get chosen() {
    return this.boxes[this.selected]?.label ?? this.label;
  }

  select(index) {
    this.selected = index;
    this.show();
  }

  setClass(label) {
    this.label = label;
    this.#change({ label });
    this.show();
  }

  // Take the selected suggestion, or all of them if none is selected; return whether there was one.
  accept() {
    const one = this.boxes[this.selected];
    const taken = one?.suggested ? [one] : this.boxes.filter((box) => box.suggested);
    return taken.length > 0 && this.#edit(() => taken.forEach((box) => (box.suggested = false)));
  }

  removeSelected() {
    if (this.selected === null) return;
    this.#edit(() => {
      this.boxes.splice(this.selected, 1);
      this.selected = null;
    });
  }

  // Move the selected box by pixels, or its right and lower side alone.
  nudge([x, y], sides) {
    const box = this.boxes[this.selected]?.box;
    if (box) this.#change({ box: sides ? this.#inside([box[0], box[1], box[2] + x, box[3] + y]) : this.#shifted(box, x, y) });
  }

  // Let nothing be edited while the item is saved: it would be lost.
  lock(locked) {
    this.#locked = locked;
    if (locked) this.#cancel();
    if (this.svg) this.svg.style.opacity = locked ? 0.5 : "";
  }

  // Return whether to warn that the edits are not saved: once for each.
  warns() {
    const edits = this.past.length;
    if (!edits || this.#warned === edits) return false;
    this.#warned = edits;
    return true;
  }

  // Undo the last edit; return whether there was one.
  back() {
    if (this.#drag || this.#locked || !this.past.length) return false;
    Object.assign(this, this.past.pop());
    this.show();
    return true;
  }

  // Do what a key means for the selected box; return whether it means anything. While the mouse holds a box, Escape
  // lets it go, and other keys do nothing.
  press(key, shift) {
    if (this.#drag && key === "Escape") this.#cancel();
    if (this.#drag || this.#locked) return true;
    if (this.selected === null) return false;
    if (key in BoxEditor.arrows) this.nudge(BoxEditor.arrows[key], shift);
    else if (key === "Delete" || key === "Backspace") this.removeSelected();
    else if (key === "Escape") this.select(null);
    else return false;
    return true;
  }

  #state() {
    return structuredClone({ boxes: this.boxes, selected: this.selected });
  }

  #edit(change) {
    if (this.#drag || this.#locked) return false;
    this.past.push(this.#state());
    change();
    this.show();
    return true;
  }

  #change(values) {
    if (this.selected !== null) this.#edit(() => Object.assign(this.boxes[this.selected], values, { suggested: false }));
  }

  // --------------------------------------------------------------------------------------------------- the mouse

  #cancel() {
    if (!this.#drag) return;
    Object.assign(this, this.#drag.before);
    this.#drag = null;
    this.show();
  }

  #unit() {
    return 1 / this.svg.getScreenCTM().a; // image pixels in a screen pixel
  }

  #point(event) {
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    return [Math.min(Math.max(x, 0), this.width), Math.min(Math.max(y, 0), this.height)];
  }

  // The box at a point, and which of its sides (left, top, right, bottom) are held there: none moves it.
  #grip([x, y]) {
    const reach = BoxEditor.reach * this.#unit();
    const held = ([left, top, right, bottom]) => {
      if (x < left - reach || x > right + reach || y < top - reach || y > bottom + reach) return null;
      // Inside, the middle third moves a box however small it is.
      const inner = [Math.min(reach, (right - left) / 3), Math.min(reach, (bottom - top) / 3)];
      return [left - x, top - y, x - right, y - bottom].map((outside, n) => outside >= -inner[n % 2]);
    };
    const area = (index) => {
      const [left, top, right, bottom] = this.boxes[index].box;
      return (right - left) * (bottom - top);
    };
    const order = [...this.boxes.keys()].sort((one, other) => area(one) - area(other));
    if (this.selected !== null) order.unshift(this.selected);
    for (const index of order) {
      const sides = held(this.boxes[index].box);
      if (sides) return { index, sides };
    }
    return null;
  }

  #onPointer(event) {
    const at = this.#point(event);
    if (event.type === "pointerdown") {
      if (event.button !== 0 || this.#locked) return;
      const found = event.shiftKey ? null : this.#grip(at);
      this.#drag = { at, found, before: this.#state(), moved: false };
      if (found) [this.selected, this.#drag.from] = [found.index, this.boxes[found.index].box];
      this.svg.setPointerCapture(event.pointerId);
    } else if (event.type === "pointermove") {
      if (!this.#drag) this.svg.style.cursor = this.#cursor(this.#grip(at));
      if (!this.#drag || !this.#move(at)) return;
    } else if (event.type === "pointercancel") {
      return this.#cancel();
    } else if (this.#drag) {
      const { found, before, moved } = this.#drag;
      this.#drag = null;
      if (moved) this.past.push(before);
      else if (!found) this.selected = null;
    }
    this.show();
  }

  // Move, resize or draw a box to a point; return whether it is far enough from the first one.
  #move([x, y]) {
    const { at, found, from, moved } = this.#drag;
    const [across, down] = [x - at[0], y - at[1]];
    if (!moved) {
      const far = Math.max(Math.abs(across), Math.abs(down)) >= BoxEditor.smallest * this.#unit();
      if (!far || (!found && this.label === null)) return false;
      this.#drag.moved = true;
      if (!found) this.selected = this.boxes.push({ label: this.label }) - 1;
    }
    const box = this.boxes[this.selected];
    box.suggested = false;
    if (!found) box.box = this.#inside([...at, x, y]);
    else if (!found.sides.includes(true)) box.box = this.#shifted(from, across, down);
    else box.box = this.#inside(from.map((side, n) => side + (found.sides[n] ? [across, down][n % 2] : 0)));
    return true;
  }

  #shifted([left, top, right, bottom], across, down) {
    across = Math.min(Math.max(across, -left), this.width - right);
    down = Math.min(Math.max(down, -top), this.height - bottom);
    return this.#inside([left + across, top + down, right + across, bottom + down]);
  }

  // Corners in any order become a box in the image, with an area, to a tenth of a pixel.
  #inside([left, top, right, bottom]) {
    const ordered = (one, other, most) => {
      const [low, high] = [Math.min(one, other), Math.max(one, other)].map((value) => Math.round(value * 10) / 10);
      const end = Math.min(Math.max(high, low + 0.1), most);
      return [Math.max(Math.min(low, Math.round(end * 10 - 1) / 10), 0), end];
    };
    const [[l, r], [t, b]] = [ordered(left, right, this.width), ordered(top, bottom, this.height)];
    return [l, t, r, b];
  }

  #cursor(found) {
    if (!found) return "crosshair";
    const [left, top, right, bottom] = found.sides;
    if ((left && top) || (right && bottom)) return "nwse-resize";
    if ((right && top) || (left && bottom)) return "nesw-resize";
    return left || right ? "ew-resize" : top || bottom ? "ns-resize" : "move";
  }

  // ------------------------------------------------------------------------------------------------ what is shown

  static words({ label, suggested, confidence }) {
    return !suggested ? label : `${label}?` + (confidence == null ? "" : ` ${Math.round(confidence * 100)}%`);
  }

  #draw() {
    if (!this.svg?.getScreenCTM()?.a) return; // not laid out yet
    this.svg.querySelector(".boxes")?.remove();
    this.svg.append(BoxEditor.#element("g", { class: "boxes" }, this.boxes.map((box, index) => this.#drawn(box, index))));
  }

  static #element(name, attributes, children = []) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  #drawn(one, index) {
    const [left, top, right, bottom] = one.box;
    const [selected, size] = [index === this.selected, this.#unit()];
    const line = { "vector-effect": "non-scaling-stroke", "stroke-width": selected ? 3 : 2 };
    const look = one.suggested ? { "fill-opacity": 0.04, "stroke-dasharray": "6 4" } : { "fill-opacity": 0.14 };
    // White letters with a dark rim can be read on every image.
    const letters = { fill: "#fff", stroke: "#000", "stroke-width": 3 * size, "stroke-linejoin": "round", "paint-order": "stroke" };
    const place = { x: left, y: Math.max(top - 5 * size, 13 * size), "font-size": 13 * size, "font-weight": 600 };
    const parts = [
      BoxEditor.#element("rect", { x: left, y: top, width: right - left, height: bottom - top, ...line, ...look }),
      BoxEditor.#element("text", { ...letters, ...place }, [BoxEditor.words(one)]),
    ];
    for (const [x, y] of selected ? [[left, top], [right, top], [left, bottom], [right, bottom]] : []) {
      const square = { x: x - 4 * size, y: y - 4 * size, width: 8 * size, height: 8 * size };
      parts.push(BoxEditor.#element("rect", { ...square, ...line, "stroke-width": 2, fill: "#fff" }));
    }
    const colour = this.colours.get(one.label) ?? one.colour ?? "#888888";
    const kind = `box${one.suggested ? " suggested" : ""}${selected ? " selected" : ""}`;
    return BoxEditor.#element("g", { class: kind, stroke: colour, fill: colour }, parts);
  }
}
