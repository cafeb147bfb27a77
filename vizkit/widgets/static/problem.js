// The line that says what went wrong where nothing else would show it. It stays until it is closed, or no longer true.

import { make } from "./elements.js";

/**
 * @param {{closed: () => void}} told `closed`: the user closed it, and the focus needs another place
 * @returns {{element: HTMLElement, say: (text: string, kind?: string) => void, settle: (kind: string) => void, close: () => boolean}} `settle`:
 *   an act of that kind has succeeded, so what was said of one before is over; `close`: whether there was anything to close
 */
export function createProblem(told) {
  const words = make("span", { class: "vk-problem-text" });
  const button = make("button", { type: "button", class: "vk-close", "data-vizkit": "close-error", "aria-label": "Close this message", title: "Close this message (Escape)", text: "×", on: { click: close } });
  const element = make("div", { class: "vk-problem", role: "alert", hidden: true, on: { keydown: (event) => { if (event.key === "Escape" && close()) event.stopPropagation(); } } }, words, button);
  let about = "";

  function say(text, kind = "") {
    about = kind;
    words.textContent = text;
    element.hidden = !text;
    if (text) words.dataset.vizkit = "error";
    else delete words.dataset.vizkit;
  }

  function close() {
    if (element.hidden) return false;
    const focused = element.contains(document.activeElement);
    say("");
    if (focused) told.closed();
    return true;
  }

  return { element, say, settle(kind) { if (kind === about) say(""); }, close };
}
