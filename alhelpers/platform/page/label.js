// Labels items in a task: keys, the boxes of boxes.js, and the next item without a new page.
// It only drives the form of label.html, which labels whole images where scripts do not run.
"use strict";

let work = null; // the item that is shown
let queue = Promise.resolve(); // what is pressed while an item loads waits for it

function start() {
  const form = document.getElementById("label");
  if (!form) return;
  const svg = form.querySelector("svg.picture");
  const given = JSON.parse(form.dataset.boxes);
  const colours = new Map([...form.querySelectorAll("[name=label]")].map((one) => [one.value, one.dataset.colour]));
  const [label, editable] = [work?.editor.label, !form.dataset.finished];
  const editor = new BoxEditor(svg, { boxes: given, colours, label, editable, changed: render });
  work = { form, svg, given, editor };
  for (const box of given) document.getElementById(`on-${box.id}`)?.remove();
  form.classList.add("scripted");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    document.activeElement?.blur(); // or Enter would press this button again
    later(() => activate(event.submitter));
  });
  form.addEventListener("click", onClick);
  if (form.dataset.nextPicture) new Image().src = form.dataset.nextPicture;
  editor.show();
}

function later(action) {
  queue = queue.then(action).catch((error) => complain(`The platform does not answer (${error.message}): try again.`));
}

// ---------------------------------------------------------------------------------------------------- the server

function activate(element) {
  if (!element?.isConnected || element.disabled) return;
  if (element.href) return leave(element.href);
  if (element.name === "label" && tool() === "boxes") return work.editor.setClass(element.value);
  if (element.name === "accept" && work.editor.accept()) return setTool("boxes");
  if (element.dataset.key === "u" && work.editor.back()) return;
  work.form.elements.boxes.value = JSON.stringify(changes());
  return load(element.hasAttribute("formaction") ? element.formAction : work.form.action, {
    method: "POST",
    body: new URLSearchParams(new FormData(work.form, element)),
  });
}

function leave(address) {
  if (isChanged() && work.editor.warns()) {
    return complain("The boxes are not saved: Enter saves them. Skip again to leave them.");
  }
  return load(address);
}

async function load(address, options) {
  const { editor } = work;
  editor.lock(true);
  try {
    await show(address, options);
  } finally {
    editor.lock(false); // the same item again, if it was refused
  }
}

async function show(address, options) {
  const answer = await fetch(address, options);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!answer.ok) return complain(page.querySelector(".notice")?.textContent ?? `The platform answers ${answer.status}.`, true);
  work.given = work.editor.boxes; // nothing is left to save
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
  const { boxes } = work.editor;
  const changed = boxes.filter((box) => !box.suggested && before[box.id] !== JSON.stringify(box));
  const left = new Set(boxes.map((box) => box.id));
  return {
    changed: changed.map(({ id, label, box }) => ({ id, label, box })),
    deleted: work.given.map((box) => box.id).filter((id) => !left.has(id)),
  };
}

function isChanged() {
  const { changed, deleted } = changes();
  return changed.length + deleted.length > 0;
}

// --------------------------------------------------------------------------------------------------- what is shown

function tool() {
  return work.svg && work.form.elements.tool.value === "boxes" ? "boxes" : "image";
}

function setTool(name) {
  work.form.elements.tool.value = name;
  if (name === "image") work.editor.selected = null;
  work.editor.show();
}

function render() {
  const { form, editor } = work;
  if (editor.selected !== null) form.elements.tool.value = "boxes";
  const boxes = tool() === "boxes";
  for (const one of form.querySelectorAll("[data-tool]")) one.setAttribute("aria-pressed", one.dataset.tool === tool());
  for (const one of form.querySelectorAll("[data-for]")) one.hidden = one.dataset.for !== tool();
  form.querySelector(".tools").hidden = !work.svg || Boolean(form.dataset.finished);
  form.querySelector("legend").textContent = boxes ? "Class of the box" : "Class of the image";
  for (const one of form.querySelectorAll("[name=label]")) {
    one.setAttribute("aria-pressed", boxes ? one.value === editor.chosen : one.dataset.chosen === "true");
  }
  const undo = form.querySelector("[data-key=u]");
  undo.disabled = !editor.past.length && !undo.dataset.saved;
  const accept = form.querySelector("[name=accept]");
  if (accept) accept.disabled = !accept.dataset.image && !editor.boxes.some((box) => box.suggested);
  form.querySelector("[data-do=delete]").disabled = editor.selected === null;
  if (!work.svg) return;
  work.svg.classList.toggle("drawing", boxes);
  form.querySelector("#boxes").replaceChildren(...editor.boxes.map(listed));
}

function listed(box, index) {
  const [item, button] = [document.createElement("li"), document.createElement("button")];
  Object.assign(button, { type: "button", textContent: BoxEditor.words(box) });
  button.dataset.box = index;
  button.setAttribute("aria-pressed", index === work.editor.selected);
  item.append(button);
  return item;
}

// ------------------------------------------------------------------------------------------------ keys and buttons

function onClick(event) {
  const target = event.target.closest("a, button");
  if (!target || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (target.dataset.tool) setTool(target.dataset.tool);
  else if (target.dataset.box) work.editor.select(Number(target.dataset.box));
  else if (target.dataset.do === "delete") work.editor.removeSelected();
  else if (target.dataset.key === "s") {
    event.preventDefault();
    later(() => activate(target));
  }
}

function press(key, shift) {
  if (work.editor.press(key, shift)) return;
  if (key === "b" && !work.form.dataset.finished) return setTool(tool() === "image" ? "boxes" : "image");
  return activate(work.form.querySelector(`[data-key="${CSS.escape(key)}"]`));
}

document.addEventListener("keydown", (event) => {
  const undo = event.key === "z" && (event.ctrlKey || event.metaKey);
  if (!work || event.altKey || (!undo && (event.ctrlKey || event.metaKey))) return;
  const arrow = event.key in BoxEditor.arrows;
  if (event.repeat && !arrow) return;
  if (event.key === "Enter" && event.target.closest("a, button, summary")) return;
  if (event.key === "Enter" || (arrow && work.editor.selected !== null)) event.preventDefault();
  later(() => press(undo ? "u" : event.key.length === 1 ? event.key.toLowerCase() : event.key, event.shiftKey));
});
window.addEventListener("beforeunload", (event) => work && isChanged() && event.preventDefault());
document.addEventListener("DOMContentLoaded", start);
