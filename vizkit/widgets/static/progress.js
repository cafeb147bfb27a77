// The line that says what is still being made: how far a moving map is, with a button that keeps it as it is, and thumbnails.

import { make } from "./elements.js";

const SPOKEN_STEP = 0.25; // a screen reader hears every quarter, not every frame

/** @param {number} done in [0, 1] @param {string} name of the map; empty where there is one @returns {string} rounded down: 100% only at the end */
export function progressText(done, name = "") {
  const whose = name ? `${name}: ` : "";
  if (!(done > 0)) return `${whose}UMAP begins…`; // on a fresh install it compiles first, for up to a minute
  return `${whose}UMAP ${Math.floor(100 * Math.min(Math.max(done, 0), 1) + 1e-6)}%`;
}

/**
 * @param {{stop: () => void, focusElsewhere: () => void}} told `focusElsewhere`: the button that had the focus goes away
 * @returns {{element: HTMLElement, show: (done: number | null, name?: string) => void, showPictures: (done: number | null) => void}} null: the map
 *   stands, no more pictures come
 */
export function createProgress(told) {
  const text = make("span", { "aria-hidden": "true" }), bar = make("span", { class: "vk-progress-bar", "aria-hidden": "true" }, make("span"));
  const stop = make("button", { type: "button", class: "vk-button", text: "Stop", title: "Keep the map as it is now", on: { click: ask } });
  const line = make("div", { class: "vk-row vk-progress", "data-vizkit": "progress", hidden: true }, text, bar, stop);
  const spoken = make("span", { class: "vk-spoken", role: "status", "aria-live": "polite" });
  const pictures = make("span", { "data-vizkit": "thumbnails", hidden: true }); // quiet: a screen reader reads no pictures
  const element = make("div", { class: "vk-row vk-progress-place" }, pictures, line, spoken);
  let asked = false, said = -1, shown = null, named = "";

  function ask() {
    if (asked) return;
    asked = true;
    stop.setAttribute("aria-disabled", "true");
    stop.textContent = "Stopping…";
    told.stop();
  }

  function rest() {
    asked = false;
    stop.removeAttribute("aria-disabled");
    stop.textContent = "Stop";
  }

  function say(done) {
    const step = Math.floor(done / SPOKEN_STEP);
    if (step === said) return;
    said = step;
    spoken.textContent = progressText(step * SPOKEN_STEP, named);
  }

  return {
    element,
    showPictures(done) {
      pictures.hidden = done === null;
      pictures.textContent = done === null ? "" : `Thumbnails ${Math.floor(100 * done)}%`;
    },
    show(done, name = "") {
      if (name !== named) said = -1;
      if (done === null) {
        if (shown === null) return;
        if (line.contains(document.activeElement)) told.focusElsewhere();
        line.hidden = true;
        rest();
        said = -1;
        spoken.textContent = "The map stands.";
      } else {
        if (shown === null || done < shown || name !== named) rest(); // another map has begun: the button is for this one again
        named = name;
        text.textContent = progressText(done, name);
        bar.firstElementChild.style.width = `${100 * done}%`;
        line.hidden = false;
        say(done);
      }
      shown = done;
    },
  };
}
