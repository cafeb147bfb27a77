// The line of controls over the maps: what the points are colored by, what dragging does, and what others put into it.

import { clipText, make } from "./elements.js";

const MODES = {
  pan: ["Pan", "Drag to move; wheel zooms; double click shows all"],
  box: ["Box", "Drag a box to select (or Shift and drag)"],
  lasso: ["Lasso", "Draw around points to select (or Alt and drag)"],
};

/**
 * @param {{color: (name: string) => void, mode: (mode: string) => void, reset: () => void}} told
 * @param {{find: (Node | null)[], more: (Node | null)[]}} others controls that stand first, and last
 * @returns {{element: HTMLElement, setMode: (mode: string) => void, setColors: (choices: {name: string, columns: string[], computed: string[]}) => void}}
 */
export function createToolbar(told, { find, more }) {
  const colorBy = make("select", { class: "vk-select", "data-vizkit": "colorby", on: { change: () => told.color(colorBy.value) } });
  const modes = Object.entries(MODES).map(([mode, [text, title]]) => make("button", { type: "button", class: "vk-button", "data-mode": mode, text, title, on: { click: () => setMode(mode) } }));
  let offered = "";
  const element = make("div", { class: "vk-toolbar" }, ...find,
    make("label", { class: "vk-row" }, make("span", { class: "vk-quiet", text: "Color by" }), colorBy),
    make("div", { class: "vk-group", role: "group", "aria-label": "What dragging does" }, ...modes),
    make("button", { type: "button", class: "vk-button", text: "Show all", title: "Show all points (0, or double click)", on: { click: told.reset } }), ...more);

  function setMode(mode) {
    told.mode(mode);
    for (const button of modes) button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
  }

  return {
    element,
    setMode,
    setColors({ name, columns, computed }) {
      const option = (text) => make("option", { value: text, text: clipText(text, 60) }), offer = JSON.stringify([columns, computed]);
      // The list may be open: it is built anew only for other colors.
      if (offer !== offered) colorBy.replaceChildren(make("option", { value: "", text: "nothing" }), ...columns.map(option), make("optgroup", { label: "computed" }, ...computed.map(option)));
      offered = offer;
      colorBy.value = name;
    },
  };
}
