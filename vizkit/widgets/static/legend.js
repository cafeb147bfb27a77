// What the colors mean: a chip for each category, or a color bar; chips hide and show, and bring out while pointed at.

import { clipText, cssColor, make, sizeCanvas } from "./elements.js";
import { formatNumber } from "./colors.js";

const BAR_WIDTH = 220;

/**
 * @param {{toggle: (code: number) => void, emphasize: (code: number | null) => void}} told
 * @returns {{element: HTMLElement, show: (scale: any, title: string, hidden: Set<number>, note: string) => void}}
 */
export function createLegend(told) {
  const element = make("div", { class: "vk-legend", "data-vizkit": "legend" });

  function chip(code, text, count, color, hidden) {
    return make("button", {
      type: "button", class: "vk-chip", "aria-pressed": String(!hidden.has(code)), "data-code": code,
      title: `${clipText(text, 120)}: ${count}. Click to hide or show.`,
      on: { click: () => told.toggle(code), pointerenter: () => told.emphasize(code), pointerleave: () => told.emphasize(null) },
    }, make("span", { class: "vk-dot", style: `background:${cssColor(color)}` }), make("span", { class: "vk-chip-text", text: clipText(text, 60), dir: "auto" }));
  }

  function bar(scale, title) {
    const canvas = make("canvas", { class: "vk-bar", role: "img", "aria-label": `${title}: ${formatNumber(scale.min)} to ${formatNumber(scale.max)}` });
    const context = sizeCanvas(canvas, BAR_WIDTH, 10);
    for (let i = 0; i < BAR_WIDTH; i++) {
      const at = 3 * Math.round((i / (BAR_WIDTH - 1)) * 255);
      context.fillStyle = cssColor(scale.table.subarray(at, at + 3));
      context.fillRect(i, 0, 1, 10);
    }
    const ends = make("div", { class: "vk-bar-ends" }, make("span", { text: formatNumber(scale.min) }),
      make("span", { class: "vk-quiet", text: clipText(title, 60), dir: "auto" }), make("span", { text: formatNumber(scale.max) }));
    return make("div", { class: "vk-bar-block" }, canvas, ends);
  }

  return {
    element,
    show(scale, title, hidden, note) {
      const focused = element.contains(document.activeElement) ? document.activeElement.dataset.code : null;
      const parts = [];
      if (scale.kind === "category") parts.push(...scale.entries.map((e) => chip(e.code, e.name, e.count, e.color, hidden)));
      if (scale.kind === "number") parts.push(bar(scale, title));
      if (scale.missing) parts.push(chip(-1, "no value", scale.missing, scale.gray, hidden));
      if (note) parts.push(make("span", { class: "vk-legend-note vk-quiet", text: clipText(note, 300), dir: "auto" }));
      element.replaceChildren(...parts);
      if (focused !== null) element.querySelector(`[data-code="${focused}"]`)?.focus();
    },
  };
}
