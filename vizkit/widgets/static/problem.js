// The line that says what went wrong where nothing else would show it.

import { make } from "./elements.js";

/** @returns {{element: HTMLElement, say: (text: string) => void}} `say("")`: nothing is wrong any more */
export function createProblem() {
  const element = make("div", { class: "vk-problem", role: "alert", hidden: true });
  return {
    element,
    say(text) {
      element.textContent = text;
      element.hidden = !text;
      if (text) element.dataset.vizkit = "error";
      else delete element.dataset.vizkit;
    },
  };
}
