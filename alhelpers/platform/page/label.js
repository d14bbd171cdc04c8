// Labels items in a task: keys, boxes drawn by mouse or finger, and the next item without a new page.
// It only drives the form of label.html, which labels whole images where scripts do not run.
"use strict";

const REACH = 8; // screen pixels around a side of a box that take hold of it
const SMALLEST = 4; // screen pixels; what is smaller is a click
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

let work = null; // the item that is shown
let lastLabel = null; // the class of the next box
let queue = Promise.resolve(); // what is pressed while an item loads waits for it

function start() {
  const form = document.getElementById("label");
  if (!form) return;
  const svg = form.querySelector("svg.picture");
  const given = JSON.parse(form.dataset.boxes);
  const [width, height] = svg ? [svg.viewBox.baseVal.width, svg.viewBox.baseVal.height] : [0, 0];
  const state = { boxes: structuredClone(given), selected: null };
  work = { form, svg, given, width, height, ...state, past: [], drag: null, warned: false };
  work.colours = Object.fromEntries([...form.querySelectorAll("[name=label]")].map((one) => [one.value, one.dataset.colour]));
  if (!(lastLabel in work.colours)) lastLabel = Object.keys(work.colours)[0] ?? null;
  for (const box of given) document.getElementById(`on-${box.id}`)?.remove();
  form.classList.add("scripted");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    document.activeElement?.blur(); // or Enter would press this button again
    later(() => activate(event.submitter));
  });
  form.addEventListener("click", onClick);
  if (svg && !form.dataset.finished) {
    for (const name of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) svg.addEventListener(name, onPointer);
  }
  if (form.dataset.nextPicture) new Image().src = form.dataset.nextPicture;
  render();
}

function later(action) {
  queue = queue.then(action).catch((error) => complain(`The platform does not answer (${error.message}): try again.`));
}

// ---------------------------------------------------------------------------------------------------- the server

function activate(element) {
  if (!element?.isConnected || element.disabled) return;
  if (element.href) return leave(element.href);
  if (element.name === "label" && tool() === "boxes") return setClass(element.value);
  if (element.name === "accept" && acceptBoxes()) return;
  if (element.dataset.key === "u" && work.past.length) return back();
  work.form.elements.boxes.value = JSON.stringify(changes());
  return load(element.hasAttribute("formaction") ? element.formAction : work.form.action, {
    method: "POST",
    body: new URLSearchParams(new FormData(work.form, element)),
  });
}

function leave(address) {
  if (isChanged() && !work.warned) {
    work.warned = true;
    return complain("The boxes are not saved: Enter saves them. Skip again to leave them.");
  }
  return load(address);
}

async function load(address, options) {
  const answer = await fetch(address, options);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!answer.ok) return complain(page.querySelector(".notice")?.textContent ?? `The platform answers ${answer.status}.`, true);
  work.given = work.boxes; // nothing is left to save
  if (!page.getElementById("label")) return location.assign(answer.url);
  document.querySelector("main").replaceWith(page.querySelector("main"));
  document.title = page.title;
  history.replaceState(null, "", answer.url);
  start();
}

function complain(message, again = false) {
  const link = Object.assign(document.createElement("a"), { href: location.href, textContent: "Load the item again" });
  document.getElementById("problem").replaceChildren(message, ...(again ? [" ", link] : []));
}

function changes() {
  const before = Object.fromEntries(work.given.map((box) => [box.id, JSON.stringify(box)]));
  const changed = work.boxes.filter((box) => !box.suggested && before[box.id] !== JSON.stringify(box));
  const left = new Set(work.boxes.map((box) => box.id));
  return {
    changed: changed.map(({ id, label, box }) => ({ id, label, box })),
    deleted: work.given.map((box) => box.id).filter((id) => !left.has(id)),
  };
}

function isChanged() {
  const { changed, deleted } = changes();
  return changed.length + deleted.length > 0;
}

// ------------------------------------------------------------------------------------------------------ the boxes

function tool() {
  return work.svg && work.form.elements.tool.value === "boxes" ? "boxes" : "image";
}

function setTool(name) {
  work.form.elements.tool.value = name;
  if (name === "image") work.selected = null;
}

function remember() {
  work.past.push(structuredClone({ boxes: work.boxes, selected: work.selected }));
}

function back() {
  Object.assign(work, work.past.pop());
  render();
}

function edit(index, values) {
  remember();
  work.boxes[index] = { ...work.boxes[index], ...values, suggested: false };
  render();
}

function setClass(label) {
  lastLabel = label;
  if (work.selected !== null) edit(work.selected, { label });
  render();
}

function acceptBoxes() {
  const one = work.boxes[work.selected];
  const taken = one?.suggested ? [one] : work.boxes.filter((box) => box.suggested);
  if (!taken.length) return false;
  remember();
  for (const box of taken) box.suggested = false;
  setTool("boxes");
  render();
  return true;
}

function removeSelected() {
  remember();
  work.boxes.splice(work.selected, 1);
  work.selected = null;
  render();
}

function unit() {
  return 1 / work.svg.getScreenCTM().a; // image pixels in a screen pixel
}

function point(event) {
  const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(work.svg.getScreenCTM().inverse());
  return [Math.min(Math.max(x, 0), work.width), Math.min(Math.max(y, 0), work.height)];
}

// The box at a point, and which of its sides (left, top, right, bottom) are held there: none moves it.
function grip([x, y]) {
  const reach = REACH * unit();
  const held = ([left, top, right, bottom]) => {
    if (x < left - reach || x > right + reach || y < top - reach || y > bottom + reach) return null;
    const near = [x - left, y - top, x - right, y - bottom].map((distance) => Math.abs(distance) <= reach);
    // In a box smaller than the reach, the nearer side counts.
    if (near[0] && near[2]) near[x - left < right - x ? 2 : 0] = false;
    if (near[1] && near[3]) near[y - top < bottom - y ? 3 : 1] = false;
    return near;
  };
  const area = (index) => {
    const [left, top, right, bottom] = work.boxes[index].box;
    return (right - left) * (bottom - top);
  };
  const order = [...work.boxes.keys()].sort((one, other) => area(one) - area(other));
  if (work.selected !== null) order.unshift(work.selected);
  for (const index of order) {
    const sides = held(work.boxes[index].box);
    if (sides) return { index, sides };
  }
  return null;
}

function onPointer(event) {
  const at = point(event);
  if (event.type === "pointerdown" && event.button === 0) {
    const found = event.shiftKey ? null : grip(at);
    work.drag = { at, found, before: structuredClone({ boxes: work.boxes, selected: work.selected }), moved: false };
    if (found) [work.selected, work.drag.from] = [found.index, work.boxes[found.index].box];
    if (found) setTool("boxes");
    work.svg.setPointerCapture(event.pointerId);
  } else if (event.type === "pointermove" && work.drag) {
    drag(at);
  } else if (event.type === "pointermove") {
    work.svg.style.cursor = cursor(grip(at));
    return;
  } else if (work.drag) {
    const { found, before, moved } = work.drag;
    work.drag = null;
    if (event.type === "pointercancel") Object.assign(work, before);
    else if (moved) work.past.push(before);
    else if (!found) work.selected = null;
  }
  render();
}

function drag([x, y]) {
  const { at, found, from } = work.drag;
  const [across, down] = [x - at[0], y - at[1]];
  if (!work.drag.moved) {
    if (Math.max(Math.abs(across), Math.abs(down)) < SMALLEST * unit()) return;
    if (!found && lastLabel === null) return complain("There are no labels: add some to the recipe first.");
    work.drag.moved = true;
    if (!found) {
      work.selected = work.boxes.push({ label: lastLabel, suggested: false }) - 1;
      setTool("boxes");
    }
  }
  const box = work.boxes[work.selected];
  box.suggested = false;
  if (!found) box.box = inside([...at, x, y]);
  else if (found.sides.includes(true)) box.box = inside(from.map((side, n) => side + (found.sides[n] ? [across, down][n % 2] : 0)));
  else box.box = shifted(from, across, down);
}

function shifted([left, top, right, bottom], across, down) {
  across = Math.min(Math.max(across, -left), work.width - right);
  down = Math.min(Math.max(down, -top), work.height - bottom);
  return inside([left + across, top + down, right + across, bottom + down]);
}

// Corners in any order become a box in the image, with an area, to a tenth of a pixel.
function inside([left, top, right, bottom]) {
  const ordered = (one, other, most) => {
    const [low, high] = [Math.min(one, other), Math.max(one, other)].map((value) => Math.round(value * 10) / 10);
    const end = Math.min(Math.max(high, low + 0.1), most);
    return [Math.max(Math.min(low, Math.round(end * 10 - 1) / 10), 0), end];
  };
  const [[l, r], [t, b]] = [ordered(left, right, work.width), ordered(top, bottom, work.height)];
  return [l, t, r, b];
}

function cursor(found) {
  if (!found) return "crosshair";
  const [left, top, right, bottom] = found.sides;
  if ((left && top) || (right && bottom)) return "nwse-resize";
  if ((right && top) || (left && bottom)) return "nesw-resize";
  return left || right ? "ew-resize" : top || bottom ? "ns-resize" : "move";
}

// --------------------------------------------------------------------------------------------------- what is shown

function render() {
  const { form } = work;
  const boxes = tool() === "boxes";
  for (const one of form.querySelectorAll("[data-tool]")) one.setAttribute("aria-pressed", one.dataset.tool === tool());
  for (const one of form.querySelectorAll("[data-for]")) one.hidden = one.dataset.for !== tool();
  form.querySelector(".tools").hidden = !work.svg || Boolean(form.dataset.finished);
  form.querySelector("legend").textContent = boxes ? "Class of the box" : "Class of the image";
  const chosen = work.boxes[work.selected]?.label ?? lastLabel;
  for (const one of form.querySelectorAll("[name=label]")) {
    one.setAttribute("aria-pressed", boxes ? one.value === chosen : one.dataset.chosen === "true");
  }
  const undo = form.querySelector("[data-key=u]");
  undo.disabled = !work.past.length && !undo.dataset.saved;
  const accept = form.querySelector("[name=accept]");
  if (accept) accept.disabled = !accept.dataset.image && !work.boxes.some((box) => box.suggested);
  form.querySelector("[data-do=delete]").disabled = work.selected === null;
  if (!work.svg) return;
  work.svg.classList.toggle("drawing", boxes);
  work.svg.querySelector(".boxes")?.remove();
  work.svg.append(element("g", { class: "boxes" }, work.boxes.map(drawn)));
  form.querySelector("#boxes").replaceChildren(...work.boxes.map(listed));
}

function element(name, attributes, children = []) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn({ label, suggested, confidence, colour, box }, index) {
  const [left, top, right, bottom] = box;
  const selected = index === work.selected;
  const size = unit();
  const stroke = work.colours[label] ?? colour ?? "#888888";
  const text = { x: left, y: Math.max(top - 5 * size, 13 * size), "font-size": 13 * size, "stroke-width": 3 * size };
  const parts = [
    element("rect", { x: left, y: top, width: right - left, height: bottom - top }),
    element("text", text, [words(label, suggested, confidence)]),
  ];
  for (const [x, y] of selected ? [[left, top], [right, top], [left, bottom], [right, bottom]] : []) {
    parts.push(element("rect", { class: "handle", x: x - 4 * size, y: y - 4 * size, width: 8 * size, height: 8 * size }));
  }
  return element("g", { class: `mark box${suggested ? " suggested" : ""}${selected ? " selected" : ""}`, stroke, fill: stroke }, parts);
}

function words(label, suggested, confidence) {
  return suggested ? `${label}? ${Math.round((confidence ?? 0) * 100)}%` : label;
}

function listed({ label, suggested, confidence }, index) {
  const [item, button] = [document.createElement("li"), document.createElement("button")];
  Object.assign(button, { type: "button", textContent: words(label, suggested, confidence) });
  button.dataset.box = index;
  button.setAttribute("aria-pressed", index === work.selected);
  item.append(button);
  return item;
}

// ------------------------------------------------------------------------------------------------ keys and buttons

function onClick(event) {
  const target = event.target.closest("a, button");
  if (!target || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (target.dataset.tool) setTool(target.dataset.tool);
  else if (target.dataset.box) work.selected = Number(target.dataset.box);
  else if (target.dataset.do === "delete") return removeSelected();
  else if (target.dataset.key === "s") {
    event.preventDefault();
    return later(() => activate(target));
  } else return;
  render();
}

function press(key, shift) {
  const selected = work.selected !== null;
  if (key in ARROWS) return selected && nudge(ARROWS[key], shift);
  if (key === "Escape") work.selected = null;
  else if (key === "b" && !work.form.dataset.finished) setTool(tool() === "boxes" ? "image" : "boxes");
  else if (key === "Delete" || key === "Backspace") return selected && removeSelected();
  else return activate(work.form.querySelector(`[data-key="${CSS.escape(key)}"]`));
  render();
}

// Arrows move the selected box by a pixel; with Shift its right and lower side.
function nudge([x, y], shift) {
  const { box } = work.boxes[work.selected];
  edit(work.selected, { box: shift ? inside([box[0], box[1], box[2] + x, box[3] + y]) : shifted(box, x, y) });
}

document.addEventListener("keydown", (event) => {
  const undo = event.key === "z" && (event.ctrlKey || event.metaKey);
  if (!work || event.altKey || (!undo && (event.ctrlKey || event.metaKey))) return;
  if (event.repeat && !(event.key in ARROWS)) return;
  if (event.key === "Enter" && event.target.closest("a, button, summary")) return;
  if (event.key === "Enter" || (event.key in ARROWS && work.selected !== null)) event.preventDefault();
  later(() => press(undo ? "u" : event.key.length === 1 ? event.key.toLowerCase() : event.key, event.shiftKey));
});
window.addEventListener("resize", () => work && render());
window.addEventListener("beforeunload", (event) => work && isChanged() && event.preventDefault());
document.addEventListener("DOMContentLoaded", start);
