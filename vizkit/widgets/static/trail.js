// The queries so far: back, forward, and a strip of their pictures.

import { clipText, containRect, make, sizeCanvas } from "./elements.js";

/** @typedef {{back: boolean, forward: boolean, trail: {row: number, id: string, thumbnail: Promise<ImageBitmap | null>}[], at: number}} History
 *   trail: oldest first, with those that "forward" leads to; at: where the present query stands in it, -1: there is none */

const STEP_SIZE = 26; // CSS pixels
const STEPS = 40; // of the strip: the latest around where one is

/** @param {{back: () => void, forward: () => void, jump: (index: number) => void, clear: () => void}} told */
export function createTrail(told) {
  const button = (text, label, hook, act) => make("button", { type: "button", class: "vk-button", "data-vizkit": hook, text, title: label, "aria-label": label, on: { click: act } });
  const back = button("←", "Back: the query before this one (Backspace)", "back", told.back), forward = button("→", "Forward (Shift and Backspace)", "forward", told.forward);
  const close = make("button", { type: "button", class: "vk-button", text: "Clear", title: "No query (Escape)", on: { click: told.clear } });
  const strip = make("ol", { class: "vk-steps", "aria-label": "Queries so far, oldest first", on: { keydown: walk } });
  const element = make("nav", { class: "vk-row vk-trail", "data-vizkit": "trail", "aria-label": "Queries so far" }, make("div", { class: "vk-group" }, back, forward), strip, close);

  /** One step at a time can be reached by Tab; arrows move between them. */
  function walk(event) {
    const steps = [...strip.querySelectorAll("button")], to = steps[steps.indexOf(document.activeElement) + ({ ArrowRight: 1, ArrowLeft: -1 }[event.key] ?? NaN)];
    if (!to) return;
    for (const step of steps) step.tabIndex = step === to ? 0 : -1;
    to.focus();
    event.preventDefault();
    event.stopPropagation();
  }

  function makeStep({ id, thumbnail }, index, present) {
    const picture = make("canvas", { class: "vk-step-image" }), name = clipText(id, 120);
    thumbnail.then((bitmap) => {
      const context = sizeCanvas(picture, STEP_SIZE, STEP_SIZE);
      context.imageSmoothingQuality = "high";
      if (bitmap) context.drawImage(bitmap, ...containRect(bitmap, STEP_SIZE, STEP_SIZE));
    }, () => {});
    return make("li", {}, make("button", {
      type: "button", class: "vk-step", title: name, "aria-label": `Query ${index + 1}, ${name}`, "aria-current": present ? "step" : null, tabindex: present ? 0 : -1, on: { click: () => told.jump(index) },
    }, picture));
  }

  return {
    element,
    /** @param {History} history */
    show({ back: canBack, forward: canForward, trail, at }) {
      const hadFocus = element.contains(document.activeElement) && document.activeElement !== close;
      back.disabled = !canBack;
      forward.disabled = !canForward;
      const first = Math.min(Math.max(at - STEPS / 2, 0), Math.max(trail.length - STEPS, 0));
      strip.replaceChildren(...trail.slice(first, first + STEPS).map((step, i) => makeStep(step, first + i, first + i === at)));
      const present = strip.querySelector("[aria-current]");
      // Within the strip alone: the page stays where it is.
      if (present) strip.scrollLeft = present.offsetLeft - strip.clientWidth / 2;
      // A button that is no longer of use loses the focus, and with it the keys: the present step takes it.
      if (hadFocus && (document.activeElement.disabled || !element.contains(document.activeElement))) present?.focus({ preventScroll: true });
    },
  };
}
