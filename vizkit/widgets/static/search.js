// The search field: finds images by id or by what any column says, lists the first, counts all, hides or selects.

import { clipText, make } from "./elements.js";
import { columnText } from "./colors.js";
import { createIndex, firstRows, matchRows, parseSearch, tellingColumns } from "./filter.js";

const LISTED = 50; // results in the list; all are counted, and brought out on the map
const HELP = "Words from an id or a column, or label:word, label=\"two words\", column>3, column=1..5";

let fields = 0; // numbers the fields of a page: names for screen readers must be its own

/**
 * @param {{found: (mask: Uint8Array | null, hide: boolean) => void, pick: (row: number) => void, select: (rows: Uint32Array) => void}} told
 *   `found`: 1 for each row that was found, null where nothing is searched for; `hide`: whether the others are to vanish
 * @returns {{element: HTMLElement, setData: (data: {ids: string[], columns: import("./colors.js").Column[]}) => void}}
 */
export function createSearch(told) {
  const own = `vk-search-${fields += 1}`;
  let index = createIndex({ ids: [], columns: [] }), search = parseSearch("", []), mask = null, listed = [], active = -1, frame = 0, count = 0;

  const field = make("input", {
    type: "search", class: "vk-input vk-search-field", "data-vizkit": "search", role: "combobox", "aria-label": "Search images", "aria-autocomplete": "list",
    "aria-expanded": "false", "aria-controls": own, "aria-describedby": `${own}-help`, autocomplete: "off", spellcheck: "false", dir: "auto", placeholder: "Search: words, label:cat, score>3", title: HELP,
    on: { input: soon, focus: () => index.warm(), keydown: onKey, click: () => list(true) },
  });
  const options = make("ul", { class: "vk-options", id: own, role: "listbox", "aria-label": "Images found", on: { click: onClick } });
  const hints = make("div", { class: "vk-hints" }), nothing = make("div", { class: "vk-hints vk-quiet" });
  const counted = make("span", { class: "vk-search-count", "data-vizkit": "search-count", role: "status" });
  const total = make("span", { class: "vk-search-total", "aria-hidden": "true" });
  const hide = make("input", { type: "checkbox", "data-vizkit": "hide-others", on: { change: tell } });
  const all = make("button", { type: "button", class: "vk-button", "data-vizkit": "select-found", text: "Select all", title: "Select all images that were found", on: { click: selectFound } });
  const acts = make("div", { class: "vk-search-acts" }, total, make("label", { class: "vk-row" }, hide, make("span", { text: "Hide others" })), all);
  // The list of options may hold options alone: what else is told stands beside it in the sheet that all share. A press
  // there leaves the focus where it is.
  const sheet = make("div", { class: "vk-sheet", hidden: true, on: { pointerdown: (event) => event.preventDefault() } }, acts, hints, options, nothing);
  const element = make("div", { class: "vk-search", role: "search", on: { focusin: () => list(true), focusout: (event) => { if (!element.contains(event.relatedTarget)) list(false); }, keydown: onSheetKey } },
    field, make("span", { id: `${own}-help`, class: "vk-spoken", text: HELP }), counted, sheet);

  /** Keys that come within one frame are answered once. */
  function soon() {
    if (!frame) frame = requestAnimationFrame(() => { frame = 0; run(); list(true); });
  }

  function run() {
    cancelAnimationFrame(frame);
    frame = 0;
    search = parseSearch(field.value, index.columns);
    mask = matchRows(search, index);
    count = 0;
    if (mask) for (const hit of mask) count += hit;
    active = -1;
    listed = mask ? firstRows(mask, search, index, LISTED) : [];
    options.replaceChildren(...listed.map(option));
    hints.replaceChildren(...[...new Set(search.notes)].map((text) => make("p", { text, dir: "auto" })));
    nothing.textContent = !mask ? "" : !count ? "No image was found." : count > LISTED ? `The first ${LISTED} of ${number(count)} are listed.` : "";
    tell();
  }

  function tell() {
    const hidden = mask !== null && hide.checked;
    counted.textContent = mask ? `${number(count)} of ${number(index.ids.length)} ${hidden ? "shown" : "found"}` : "";
    total.textContent = counted.textContent;
    leaveRoom();
    acts.hidden = !mask;
    all.disabled = !count;
    told.found(mask, hidden);
  }

  /** The count stands in the field while the sheet is closed. */
  function leaveRoom() {
    field.style.paddingRight = mask && sheet.hidden ? `${counted.offsetWidth + 14}px` : "";
  }

  function option(row, at) {
    const why = tellingColumns(search, index, row).map((place) => `${clipText(index.columns[place].name, 40)}: ${clipText(columnText(index.columns[place], row), 80)}`);
    return make("li", { class: "vk-option", id: `${own}-${at}`, role: "option", "aria-selected": "false", "data-vizkit": "search-result", "data-row": row },
      make("span", { class: "vk-option-id", text: clipText(index.ids[row]), dir: "auto" }), why.length ? make("span", { class: "vk-option-why vk-quiet", text: why.join(" · "), dir: "auto" }) : null);
  }

  function list(open) {
    const shown = open && element.contains(document.activeElement) && (mask !== null || search.notes.length > 0);
    sheet.hidden = !shown;
    element.toggleAttribute("data-open", shown);
    leaveRoom();
    options.hidden = !listed.length;
    hints.hidden = !hints.childNodes.length;
    nothing.hidden = !nothing.textContent;
    field.setAttribute("aria-expanded", String(shown && listed.length > 0));
    if (!shown) setActive(-1);
  }

  function setActive(at) {
    options.children[active]?.setAttribute("aria-selected", "false");
    active = at;
    const now = options.children[at];
    now?.setAttribute("aria-selected", "true");
    now?.scrollIntoView({ block: "nearest" });
    if (now) field.setAttribute("aria-activedescendant", now.id);
    else field.removeAttribute("aria-activedescendant");
  }

  function pick(at) {
    list(false);
    if (at >= 0 && at < listed.length) told.pick(listed[at]);
  }

  function onClick(event) {
    const chosen = event.target.closest("[data-row]");
    if (chosen) pick(Array.from(options.children).indexOf(chosen));
  }

  function onKey(event) {
    if (event.isComposing || event.altKey || event.ctrlKey || event.metaKey) return;
    if (frame && event.key !== "Escape") { run(); list(true); }
    const last = listed.length - 1;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (sheet.hidden) list(true);
      const step = event.key === "ArrowDown" ? 1 : -1;
      if (last >= 0) setActive(active < 0 ? (step > 0 ? 0 : last) : (active + step + last + 1) % (last + 1));
    } else if (event.key === "Enter") pick(active < 0 ? 0 : active);
    else if (event.key === "Escape") {
      if (!sheet.hidden) list(false);
      else if (field.value) { field.value = ""; hide.checked = false; run(); }
      else return;
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function onSheetKey(event) {
    if (event.key !== "Escape" || event.target === field || sheet.hidden) return;
    field.focus();
    list(false);
    event.stopPropagation();
  }

  function selectFound() {
    const rows = new Uint32Array(count);
    for (let row = 0, at = 0; row < mask.length; row++) if (mask[row]) rows[at++] = row;
    if (sheet.contains(document.activeElement)) field.focus();
    list(false);
    told.select(rows);
  }

  return {
    element,
    setData(data) {
      index = createIndex(data, index);
      if (field.value.trim()) { run(); list(!sheet.hidden); }
    },
  };
}

const number = (value) => value.toLocaleString("en-US");
