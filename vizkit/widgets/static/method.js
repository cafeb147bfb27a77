// What stands above the neighbors: which method, how far to trust it, one scale for all pictures, and what is still to come.

import { clipText, make } from "./elements.js";
import { formatNumber } from "./colors.js";
import { createBadge } from "./badge.js";
import { drawEvidenceBar } from "./evidence.js";

const AUTOMATIC = ""; // contribution where it is exact, then the best method that was found trustworthy
const LEAST_WIDTH = 120; // CSS pixels of the scale, where it is not laid out yet

/**
 * The scale of all pictures, with a mark at the value that is pointed at.
 * @returns {{element: HTMLElement, show: (scale: {signed: boolean, limit: number, text: string} | null, opacity: number, value: number | null) => void}}
 */
export function createScale() {
  const bar = make("canvas", { class: "vk-evidence-bar", role: "img" }), unit = make("div", { class: "vk-quiet vk-unit" });
  const element = make("div", { class: "vk-scale" }, bar, unit);
  return {
    element,
    show(scale, opacity, value) {
      element.toggleAttribute("data-blank", !scale);
      if (!scale) return;
      const { signed, limit, text } = scale;
      drawEvidenceBar(bar, Math.max(element.clientWidth, LEAST_WIDTH), { signed, limit, opacity: Math.max(opacity, 0.05), ink: getComputedStyle(element).color, value });
      unit.textContent = text;
      bar.setAttribute("aria-label", `Scale: ${formatNumber(signed ? -limit : 0)} to ${formatNumber(limit)}, ${text}`);
    },
  };
}

/** A line that says what is awaited or went wrong; errors are found by their hook. */
export function createMessage() {
  const element = make("div", { class: "vk-message", role: "status" });
  return {
    element,
    /** @param {string} text @param {"quiet" | "loading" | "error"} kind */
    say(text, kind = "quiet") {
      element.textContent = clipText(text, 600);
      element.hidden = !text;
      element.className = `vk-message vk-message-${kind}`;
      if (kind === "error") element.dataset.vizkit = "error";
      else delete element.dataset.vizkit;
    },
  };
}

/** @returns {HTMLInputElement} */
function opacitySlider(changed) {
  return make("input", { type: "range", min: 0, max: 100, value: 70, class: "vk-slider", "aria-label": "Opacity of the evidence", title: "Opacity of the evidence", on: { input: changed } });
}

/**
 * @param {{methods: {name: string, title: string}[], live?: boolean}} options live: false where nothing can be computed anew, so that there is no contrast
 * @param {HTMLElement} invitation shown while two are being picked
 * @param {{method: (name: string | null) => void, opacity: () => void, contrast: () => void}} told `method(null)`: the best that is known
 */
export function createMethod({ methods, live }, invitation, told) {
  const select = make("select", { class: "vk-select vk-method", "data-vizkit": "method", "aria-label": "Evidence method", on: { change: () => told.method(select.value === AUTOMATIC ? null : select.value) } });
  const contrast = make("button", { type: "button", class: "vk-button", "data-vizkit": "contrast", text: "Contrast", "aria-pressed": "false", title: "Why this one and not that one: pick two", on: { click: told.contrast } });
  const slider = opacitySlider(told.opacity), badge = createBadge("trust"), scale = createScale(), message = createMessage();
  const controls = make("div", { class: "vk-row vk-controls" }, select, contrast, make("label", { class: "vk-row vk-opacity" }, make("span", { class: "vk-quiet", text: "Opacity" }), slider));
  const made = make("span", { class: "vk-made" }), source = make("div", { class: "vk-source" }, badge.element, made);
  // While two are picked, the invitation takes the place of these lines, so that no tile moves under the pointer.
  const lines = make("div", { class: "vk-lines" }, source, message.element);
  const element = make("section", { class: "vk-evidence", "data-vizkit": "evidence", "aria-label": "Evidence" }, controls, scale.element, lines, invitation);
  let verdicts = {};
  contrast.hidden = live === false;
  fill();

  function fill() {
    const chosen = select.value, name = (m) => `${m.title}${verdicts[m.name] ? ` (${verdicts[m.name]})` : ""}`;
    select.replaceChildren(make("option", { value: AUTOMATIC, text: "Best known" }), ...methods.map((m) => make("option", { value: m.name, text: clipText(name(m), 60) })));
    select.value = chosen;
    if (select.selectedIndex < 0) select.value = AUTOMATIC;
  }

  return {
    element,
    say: message.say,
    opacity: () => Number(slider.value) / 100,
    title: (name) => methods.find((m) => m.name === name)?.title ?? name,
    /** @param {boolean} can @param {string} why not */
    allow(can, why) {
      controls.hidden = !can;
      element.toggleAttribute("data-explains", can);
      message.say(can ? "" : why);
    },
    /** @param {any} reply what was answered, or null */
    show(reply) {
      source.toggleAttribute("data-blank", !reply);
      badge.close();
      if (!reply) return;
      badge.show(reply.trust, reply.reason, reply.title);
      made.textContent = made.title = clipText([reply.title, reply.layer && `layer ${reply.layer}`].filter(Boolean).join(" · "));
      // A method that is known by a name here; one that the caller wrote has no place in the list.
      const known = { ...verdicts, ...reply.verdicts };
      if (reply.trust?.verdict) known[reply.method] = reply.trust.verdict;
      if (JSON.stringify(known) !== JSON.stringify(verdicts)) { verdicts = known; fill(); }
    },
    /** Another network, other verdicts. */
    forgetVerdicts() { verdicts = {}; fill(); },
    scale: (scaleNow, value) => scale.show(scaleNow, Number(slider.value) / 100, value),
    /** @param {boolean} on whether two are being picked @param {boolean} possible */
    picking(on, possible) {
      contrast.setAttribute("aria-pressed", String(on));
      contrast.disabled = !possible;
      lines.hidden = on;
    },
    focusContrast() { contrast.focus({ preventScroll: true }); },
  };
}
