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

// A button for each entry of `buttons`: those that answer, those that do something else.
function makeButtons(model, el, press) {
  const rows = [add(el, "div", "buttons"), add(el, "div", "buttons")];
  return model.get("buttons").map((button) => {
    const element = add(rows[["class", "label"].includes(button.do) ? 0 : 1], "button");
    element.type = "button";
    if (button.colour) add(element, "span", "swatch").style.background = button.colour;
    element.append(button.text);
    if (button.key) add(element, "kbd", "", button.key);
    element.addEventListener("click", () => {
      press(button);
      el.focus({ preventScroll: true });
    });
    return [button, element];
  });
}

function render({ model, el }) {
  el.classList.add("alhelpers-labelling");
  el.tabIndex = 0;
  // JupyterLab's own keys (d d deletes the cell) must not see what is pressed here.
  el.dataset.lmSuppressShortcuts = "true";
  add(el, "style", "", STYLE);
  const progress = add(el, "strong", "progress");
  const stage = add(el, "div");
  const suggestion = add(el, "div", "suggestion");
  const elements = makeButtons(model, el, press);
  const message = add(el, "div", "message");
  message.setAttribute("role", "status");
  add(el, "div", "hint", model.get("hint"));

  const classes = elements.filter(([button]) => button.do === "class").map(([{ label, colour }]) => [label, colour]);
  const drawn = {}; // by item the boxes that were saved, should that be undone
  let editor = null; // of the boxes of the item that is shown

  function press(button) {
    const { item } = model.get("state");
    if (button.do === "class") return editor?.setClass(button.label);
    if (button.do === "delete") return editor?.removeSelected();
    if (button.do === "undo" && editor?.back()) return;
    if (item === null && button.do !== "undo") return;
    const pressed = { do: button.do, label: button.label, item };
    if (button.do === "save") pressed.boxes = drawn[item] = structuredClone(editor.boxes);
    model.send(pressed);
    editor?.select(null); // a class that is chosen now is for the next item
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    // Enter and space on a button are a click on it.
    if ([" ", "Enter"].includes(event.key) && event.target.tagName === "BUTTON") return;
    const arrow = event.key in BoxEditor.arrows;
    const button = model.get("buttons").find((each) => each.key === event.key);
    if ((arrow || !event.repeat) && editor?.press(event.key, event.shiftKey)) stop(event);
    else if (button) {
      stop(event);
      if (!event.repeat) press(button);
    }
  }

  function stop(event) {
    event.preventDefault();
    event.stopPropagation();
  }

  function showItem(state) {
    const item = !state.image ? null : classes.length ? canvasOf(state) : imageOf(state);
    stage.replaceChildren(...[item].filter(Boolean));
    el.dataset.item = state.item ?? "";
    if (!classes.length) return;
    const boxes = drawn[state.item] ?? state.boxes;
    const label = editor?.label; // the next box is of the class of the last one
    editor = new BoxEditor(item, { boxes, colours: new Map(classes), label, changed: showButtons });
    // JupyterLab would take the focus, and select cells by a click with Shift.
    item?.addEventListener("mousedown", (event) => {
      stop(event);
      el.focus({ preventScroll: true });
    });
  }

  function showButtons() {
    const { item } = model.get("state");
    for (const [button, element] of elements) {
      if (button.do === "class") element.setAttribute("aria-pressed", button.label === editor.chosen);
      else if (button.do === "delete") element.disabled = editor.selected === null;
      else element.disabled = item === null && button.do !== "undo";
    }
  }

  function show() {
    const state = model.get("state");
    progress.textContent = state.progress;
    suggestion.textContent = state.suggestion;
    message.textContent = state.message;
    if (el.dataset.item !== (state.item ?? "")) showItem(state);
    showButtons();
  }

  el.addEventListener("keydown", onKey, true);
  model.on("change:state", show);
  show();
  return () => {
    model.off("change:state", show);
    el.removeEventListener("keydown", onKey, true);
  };
}

export default { render };
