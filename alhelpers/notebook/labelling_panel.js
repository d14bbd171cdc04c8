// The labelling panel: shows `state`, and sends what was pressed together with the item that was shown then. Python
// puts boxes.js of the platform's labelling page before it, which draws the boxes.

const STYLE = `
.alhelpers-labelling { outline: none; padding: 8px; border: 1px solid var(--jp-border-color1, #bdbdbd); max-width: 640px;
  color: var(--jp-ui-font-color1, #212121); }
.alhelpers-labelling:focus-within { border-color: var(--jp-brand-color1, #1976d2); }
.alhelpers-labelling .progress { background: none; }
.alhelpers-labelling .item { display: block; margin: 8px 0; max-width: 100%; }
.alhelpers-labelling svg.item { width: 100%; max-height: 45vh; touch-action: none; }
.alhelpers-labelling .buttons { display: flex; flex-wrap: wrap; gap: 6px; margin: 6px 0; }
.alhelpers-labelling button { font: inherit; padding: 4px 10px; cursor: pointer;
  color: inherit; background: var(--jp-layout-color2, #eeeeee);
  border: 1px solid var(--jp-border-color1, #bdbdbd); border-radius: 3px; }
.alhelpers-labelling button:disabled { opacity: 0.5; cursor: default; }
.alhelpers-labelling button[aria-pressed=true] { outline: 2px solid var(--jp-brand-color1, #1976d2); }
.alhelpers-labelling .swatch { display: inline-block; width: 10px; height: 10px; margin-right: 6px; border-radius: 2px; }
.alhelpers-labelling kbd { margin-left: 6px; padding: 0 4px; border: 1px solid currentColor; border-radius: 3px; font-size: 0.8em; }
.alhelpers-labelling .hint { color: var(--jp-ui-font-color2, #616161); }
`;
const SVG = "http://www.w3.org/2000/svg";

function add(parent, tag, className = "", text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  parent.append(element);
  return element;
}

// The image of an item, with the text that stands for it.
function imageOf(state) {
  const image = document.createElement("img");
  image.src = state.image;
  image.alt = `the item ${state.name}, to be labelled`;
  image.className = "item";
  return image;
}

// The same as an SVG in pixels of the image, to draw on.
function canvasOf(state) {
  const [width, height] = state.size;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "item");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `the item ${state.name}, to draw boxes on`);
  const image = svg.appendChild(document.createElementNS(SVG, "image"));
  image.setAttribute("href", state.image);
  image.setAttribute("width", width);
  image.setAttribute("height", height);
  if (Math.max(width, height) < 320) image.style.imageRendering = "pixelated"; // enlarged, so as to see its pixels
  return svg;
}

function stop(event) {
  event.preventDefault();
  event.stopPropagation();
}

class Panel {
  drawn = {}; // by item the boxes that were saved, should that be undone
  sent = null; // the boxes that are being saved
  editor = null; // of the boxes of the item that is shown

  constructor(model, el) {
    Object.assign(this, { model, el });
    el.classList.add("alhelpers-labelling");
    el.tabIndex = 0;
    // JupyterLab's own keys (d d deletes the cell) must not see what is pressed here.
    el.dataset.lmSuppressShortcuts = "true";
    add(el, "style", "", STYLE);
    this.progress = add(el, "strong", "progress");
    this.stage = add(el, "div");
    this.suggestion = add(el, "div", "suggestion");
    this.buttons = this.makeButtons();
    this.classes = new Map(model.get("buttons").flatMap((one) => (one.do === "class" ? [[one.label, one.colour]] : [])));
    this.message = add(el, "div", "message");
    this.message.setAttribute("role", "status");
    add(el, "div", "hint", model.get("hint"));
  }

  // A row of buttons for the classes, and one for the rest.
  makeButtons() {
    const rows = [add(this.el, "div", "buttons"), add(this.el, "div", "buttons")];
    return this.model.get("buttons").map((button) => {
      const element = add(rows[["class", "label"].includes(button.do) ? 0 : 1], "button");
      element.type = "button";
      if (button.colour) add(element, "span", "swatch").style.background = button.colour;
      element.append(button.text);
      if (button.key) add(element, "kbd", "", button.key);
      element.addEventListener("click", () => {
        this.press(button);
        this.el.focus({ preventScroll: true });
      });
      return [button, element];
    });
  }

  press(button) {
    const { item } = this.model.get("state");
    if (button.do === "class") return this.editor.setClass(button.label);
    if (button.do === "delete") return this.editor.removeSelected();
    if (button.do === "undo" && this.editor?.back()) return;
    if (item === null && button.do !== "undo") return;
    if (["skip", "discard"].includes(button.do) && this.editor?.warns()) {
      this.message.textContent = "The boxes are not saved: Enter saves them. Press again to leave them.";
      return;
    }
    const pressed = { do: button.do, label: button.label, item };
    if (button.do === "save") pressed.boxes = this.sent = structuredClone(this.editor.boxes);
    try {
      this.model.send(pressed);
    } catch {
      this.message.textContent = "The kernel has stopped, and nothing is saved: run the cell again.";
      return;
    }
    this.editor?.select(null); // a class that is chosen now is for the next item
    this.editor?.lock(true);
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    // Enter and space on a button are a click on it.
    if (event.key === "Enter" && event.target.tagName === "BUTTON") return;
    const again = event.repeat && !(event.key in BoxEditor.arrows);
    if (!again && this.editor?.press(event.key, event.shiftKey)) return stop(event);
    const button = this.model.get("buttons").find((each) => each.key === event.key);
    if (!button) return;
    stop(event);
    if (!event.repeat) this.press(button);
  }

  show() {
    const state = this.model.get("state");
    this.progress.textContent = state.progress;
    this.suggestion.textContent = state.suggestion;
    this.message.textContent = state.message;
    // A message alone leaves the boxes as they are.
    if (this.el.dataset.item !== (state.item ?? "")) this.showItem(state);
    else this.editor?.lock(false);
    this.sent = null;
    this.showButtons();
  }

  showItem(state) {
    const item = !state.image ? null : this.classes.size ? canvasOf(state) : imageOf(state);
    this.stage.replaceChildren(...[item].filter(Boolean));
    if (this.sent) this.drawn[this.el.dataset.item] = this.sent;
    this.el.dataset.item = state.item ?? "";
    if (!this.classes.size) return;
    const boxes = this.drawn[state.item] ?? state.boxes;
    const label = this.editor?.label; // the next box is of the class of the last one
    this.editor = new BoxEditor(item, { boxes, colours: this.classes, label, changed: () => this.showButtons() });
    // JupyterLab would take the focus, and select cells by a click with Shift.
    item?.addEventListener("mousedown", (event) => {
      stop(event);
      this.el.focus({ preventScroll: true });
    });
  }

  showButtons() {
    const { item } = this.model.get("state");
    for (const [button, element] of this.buttons) {
      if (button.do === "class") element.setAttribute("aria-pressed", button.label === this.editor.chosen);
      else if (button.do === "delete") element.disabled = this.editor.selected === null;
      else element.disabled = item === null && button.do !== "undo";
    }
  }
}

function render({ model, el }) {
  const panel = new Panel(model, el);
  const [show, onKey] = [() => panel.show(), (event) => panel.onKey(event)];
  el.addEventListener("keydown", onKey, true);
  model.on("change:state", show);
  show();
  return () => {
    model.off("change:state", show);
    el.removeEventListener("keydown", onKey, true);
  };
}

export default { render };
