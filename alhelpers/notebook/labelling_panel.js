// The labelling panel: shows `state`, and sends what was pressed together with the item that was shown then.

const STYLE = `
.alhelpers-labelling { outline: none; padding: 8px; border: 1px solid var(--jp-border-color1, #bdbdbd); max-width: 640px; }
.alhelpers-labelling:focus-within { border-color: var(--jp-brand-color1, #1976d2); }
.alhelpers-labelling img.item { display: block; margin: 8px 0; max-width: 100%; }
.alhelpers-labelling .buttons { display: flex; flex-wrap: wrap; gap: 6px; margin: 6px 0; }
.alhelpers-labelling .buttons button { font: inherit; padding: 4px 10px; cursor: pointer;
  color: var(--jp-ui-font-color1, #212121); background: var(--jp-layout-color2, #eeeeee);
  border: 1px solid var(--jp-border-color1, #bdbdbd); border-radius: 3px; }
.alhelpers-labelling .buttons button:disabled { opacity: 0.5; cursor: default; }
.alhelpers-labelling kbd { margin-left: 6px; padding: 0 4px; border: 1px solid currentColor; border-radius: 3px; font-size: 0.8em; }
.alhelpers-labelling .hint { color: var(--jp-ui-font-color2, #616161); }
`;

function add(parent, tag, className = "", text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  parent.append(element);
  return element;
}

function render({ model, el }) {
  add(el, "style", "", STYLE);
  const progress = add(el, "strong", "progress");
  const image = add(el, "img", "item");
  const suggestion = add(el, "div", "suggestion");
  const answers = add(el, "div", "buttons");
  const actions = add(el, "div", "buttons");
  const message = add(el, "div", "message");
  message.setAttribute("role", "status");
  add(el, "div", "hint", model.get("hint"));
  let root = null;

  async function press(button) {
    const { item } = model.get("state");
    if (item === null && button.do !== "undo") return;
    const pressed = { do: button.do, label: button.label, item };
    if (button.do === "save") {
      const id = model.get("boxes").replace("IPY_MODEL_", "");
      pressed.boxes = (await model.widget_manager.get_model(id)).get("bboxes");
    }
    model.send(pressed);
  }

  const elements = model.get("buttons").map((button) => {
    const isAnswer = button.do === "label" || button.do === "save";
    const element = add(isAnswer ? answers : actions, "button", "", button.text);
    element.type = "button";
    if (button.key) add(element, "kbd", "", button.key);
    element.addEventListener("click", () => {
      press(button);
      root?.focus({ preventScroll: true });
    });
    return [button, element];
  });

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const button = model.get("buttons").find((each) => each.key === event.key);
    // The widget of the boxes moves them by letters and chooses classes by digits.
    const inBoxes = !el.contains(event.target) && event.target !== root;
    if (!button || (inBoxes && !["save", "undo"].includes(button.do))) return;
    // Enter and space on a button are a click on it.
    if (event.key === "Enter" && event.target.tagName === "BUTTON") return;
    event.preventDefault();
    event.stopPropagation();
    if (!event.repeat) press(button);
  }

  function show() {
    const state = model.get("state");
    progress.textContent = state.progress;
    image.style.display = state.image ? "" : "none";
    image.src = state.image;
    image.alt = `the item ${state.name}, to be labelled`;
    suggestion.textContent = state.suggestion;
    message.textContent = state.message;
    el.dataset.item = state.item ?? "";
    for (const [button, element] of elements) element.disabled = state.item === null && button.do !== "undo";
  }

  // The panel is put into its box after it was rendered.
  let waiting = requestAnimationFrame(function attach() {
    root = el.closest(".alhelpers-labelling");
    if (!root) {
      waiting = requestAnimationFrame(attach);
      return;
    }
    root.tabIndex = 0;
    // JupyterLab's own keys (d d deletes the cell) must not see what is pressed here.
    root.dataset.lmSuppressShortcuts = "true";
    root.addEventListener("keydown", onKey, true);
  });

  model.on("change:state", show);
  show();
  return () => {
    cancelAnimationFrame(waiting);
    model.off("change:state", show);
    root?.removeEventListener("keydown", onKey, true);
  };
}

export default { render };
