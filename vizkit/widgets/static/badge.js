// How far a method can be trusted on this network: a color and a word; the reason one click away.

import { clipText, make } from "./elements.js";

/** @typedef {{verdict: "green" | "amber" | "red" | null, reason?: string}} Trust */

// The words are for readers who cannot tell the colors apart, and for those who do not know what they stand for.
const VERDICTS = {
  green: { word: "Green: trusted", means: "Measured on this network: it finds what makes images alike, and random weights do not." },
  amber: { word: "Amber: with care", means: "Measured on this network: better than chance, but not in every respect." },
  red: { word: "Red: not trusted", means: "Measured on this network: no better than chance. Do not read meaning into these maps." },
};
const UNMEASURED = { word: "Not measured", means: "Nobody has measured this method on this network yet. In the notebook, vk.trust(encoder, images) does." };

/** @param {Trust | null | undefined} trust @returns {{word: string, means: string}} */
export function verdictOf(trust) {
  return (Object.hasOwn(VERDICTS, trust?.verdict ?? "") && VERDICTS[trust.verdict]) || UNMEASURED;
}

/** @returns {string} why a method was taken, without the finding that is told above it already */
export function withoutFinding(why, found) {
  if (!found || !why.includes(found)) return why;
  return why.replace(found, "").replace(/[\s:;,]*((green|amber|red)[\s:]*)?$/, "");
}

/** A button that says the verdict, and a note below it that opens with the reason. @param {string} hook for tests: which of the badges it is */
export function createBadge(hook) {
  const word = make("span", {}), dot = make("span", { class: "vk-verdict-dot" });
  const button = make("button", { type: "button", class: "vk-badge", "data-vizkit": hook, "aria-expanded": "false", on: { click: () => open(reason.hidden) } }, dot, word);
  const reason = make("div", { class: "vk-reason", "data-vizkit": `${hook}-reason`, role: "note", hidden: true });
  const element = make("span", { class: "vk-trust", on: { keydown: onKey, focusout: onFocusOut } }, button, reason);

  function open(on) {
    reason.hidden = !on;
    button.setAttribute("aria-expanded", String(on));
  }

  function onKey(event) {
    if (event.key !== "Escape" || reason.hidden) return;
    open(false);
    button.focus({ preventScroll: true });
    event.preventDefault();
    event.stopPropagation();
  }

  /** A click elsewhere closes it; one inside, to mark its words, does not. */
  function onFocusOut(event) {
    if (event.relatedTarget && !element.contains(event.relatedTarget)) open(false);
  }

  return {
    element,
    close: () => open(false),
    /** @param {Trust | null | undefined} trust @param {string} why why this method answered @param {string} title of the method */
    show(trust, why, title) {
      const { word: text, means } = verdictOf(trust);
      word.textContent = text;
      button.dataset.verdict = verdictOf(trust) === UNMEASURED ? "none" : trust.verdict;
      button.setAttribute("aria-label", `${text}: how far ${clipText(title, 80)} can be trusted on this network. Show the reason.`);
      const found = trust?.verdict ? trust.reason ?? "" : "", chosen = withoutFinding(why ?? "", found);
      reason.replaceChildren(make("strong", { text: means }), ...[found, chosen && `Why this method: ${chosen}`].filter(Boolean).map((t) => make("p", { text: clipText(t, 800) })));
    },
  };
}
