// The selection as a table: what its images are called and what the columns say, to sort, to name and to save.

import { clipText, make } from "./elements.js";
import { columnText } from "./colors.js";
import { csvOf, sortRows } from "./csv.js";
import { SILENT, tellSilence } from "./inquiry.js";

const ROWS_SHOWN = 200;
const CELL_LENGTH = 120; // characters of a cell; more would have to be laid out

/**
 * @param {{pick: (row: number) => void, near: (row: number) => void, name: ((text: string) => Promise<{column: string}>) | null}} told
 *   `near(-1)`: no row is pointed at; `name`: null where nobody keeps names, else `column` is the one that the selection has become
 * @returns {{element: HTMLElement, show: (rows: ArrayLike<number>, data: {ids: string[], columns: import("./colors.js").Column[]}) => void}}
 */
export function createTable(told) {
  let rows = new Uint32Array(0), data = { ids: [], columns: [] }, sorted = rows, by = null, descending = false;

  const heading = make("strong", { class: "vk-table-heading" });
  const field = make("input", { type: "text", class: "vk-input", "data-vizkit": "selection-name", "aria-label": "Name for the selection", placeholder: "Name", maxlength: 200, dir: "auto", autocomplete: "off", on: { keydown: onFieldKey } });
  const naming = make("span", { class: "vk-row" }, field, make("button", { type: "button", class: "vk-button", "data-vizkit": "name-selection", text: "Name selection", title: "The name becomes a column: yes for these images, no for the others", on: { click: giveName } }));
  const save = make("button", { type: "button", class: "vk-button", "data-vizkit": "save-csv", text: "Save as CSV", on: { click: saveFile } });
  const message = make("span", { class: "vk-quiet", role: "status", dir: "auto" });
  const bar = make("div", { class: "vk-table-bar" }, heading, naming, save, message);
  const head = make("tr"), body = make("tbody", { on: { click: onClick, pointerover: (event) => point(event), pointerleave: () => told.near(-1), focusin: (event) => point(event), focusout: () => told.near(-1), keydown: onRowKey } });
  const scroll = make("div", { class: "vk-table-scroll", role: "region", "aria-label": "Selected images", tabindex: 0 }, make("table", { class: "vk-table" }, make("thead", {}, head), body));
  const more = make("p", { class: "vk-quiet vk-table-more" });
  const empty = make("p", { class: "vk-quiet vk-table-more", text: "Nothing is selected. Box or Lasso, or Select all after a search, lists images here." });
  const element = make("section", { class: "vk-table-part", "data-vizkit": "table", "aria-label": "Selection" }, bar, scroll, more, empty);
  naming.hidden = !told.name;

  function render() {
    const n = rows.length, some = n > 0;
    for (const part of [bar, scroll]) part.hidden = !some;
    empty.hidden = some;
    more.hidden = n <= ROWS_SHOWN;
    more.textContent = `The first ${ROWS_SHOWN} of ${n.toLocaleString("en-US")} are listed; the CSV has all of them.`;
    heading.textContent = `${n.toLocaleString("en-US")} selected`;
    if (!some) { head.replaceChildren(); body.replaceChildren(); return; }
    sorted = sortRows(rows, data, by, descending);
    head.replaceChildren(...["id", ...data.columns.map((column) => column.name)].map((name, place) => headCell(name, place - 1)));
    body.replaceChildren(...Array.from(sorted.slice(0, ROWS_SHOWN), bodyRow));
  }

  function headCell(name, place) {
    const sort = by !== place ? "none" : descending ? "descending" : "ascending";
    const button = make("button", { type: "button", class: "vk-sort", "data-place": place, title: clipText(name), on: { click: () => sortBy(place) } },
      make("span", { class: "vk-sort-name", text: clipText(name, 60), dir: "auto" }), make("span", { class: "vk-sort-mark", "aria-hidden": "true", text: { none: "", ascending: "▲", descending: "▼" }[sort] }));
    return make("th", { scope: "col", "aria-sort": sort, class: data.columns[place]?.kind === "number" ? "vk-number" : null }, button);
  }

  function bodyRow(row, at) {
    const id = make("th", { scope: "row" }, make("button", { type: "button", class: "vk-row-id", tabindex: at ? -1 : 0, text: clipText(data.ids[row], CELL_LENGTH), title: clipText(data.ids[row]), dir: "auto" }));
    const cells = data.columns.map((column) => {
      const text = columnText(column, row);
      return make("td", { class: column.kind === "number" ? "vk-number" : null, dir: "auto", text: clipText(text, CELL_LENGTH), title: text.length > 24 ? clipText(text) : null });
    });
    return make("tr", { "data-vizkit": "table-row", "data-row": row }, id, ...cells);
  }

  /** Up, down, and back to the order of the images. */
  function sortBy(place) {
    if (by !== place) { by = place; descending = false; } else if (!descending) descending = true; else by = null;
    render();
    head.querySelector(`[data-place="${place}"]`)?.focus();
  }

  const rowAt = (event) => { const line = event.target.closest?.("[data-row]"); return line ? Number(line.dataset.row) : -1; };

  function point(event) {
    const row = rowAt(event);
    if (row >= 0) told.near(row);
  }

  function onClick(event) {
    const row = rowAt(event);
    if (row >= 0) told.pick(row);
  }

  /** Up and down walk the rows, so that Tab passes the whole table at once. */
  function onRowKey(event) {
    const line = event.target.closest("[data-row]"), lines = Array.from(body.children);
    const at = lines.indexOf(line), to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: lines.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    const next = lines[to]?.querySelector("button");
    if (next) {
      event.target.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    }
    event.preventDefault();
    event.stopPropagation();
  }

  function onFieldKey(event) {
    if (event.key === "Enter" && !event.isComposing) { giveName(); event.preventDefault(); }
    if (event.key !== "Tab") event.stopPropagation();
  }

  function giveName() {
    const text = field.value.trim();
    if (!text) {
      message.textContent = "Write a name first.";
      field.focus();
      return;
    }
    message.textContent = "Naming…";
    const say = (words) => { message.textContent = words; };
    tellSilence(told.name(text), () => say(SILENT)).then(({ column }) => {
      say(column === text ? `Named: “${clipText(text, 60)}” is a column now.` : `Named: “${clipText(column, 60)}” is a column now; “${clipText(text, 60)}” was taken.`);
      if (field.value.trim() === text) field.value = "";
    }, (error) => say(error?.message || String(error)));
  }

  function saveFile() {
    const address = URL.createObjectURL(new Blob([csvOf(sorted, data)], { type: "text/csv;charset=utf-8" }));
    const link = make("a", { href: address, download: "selection.csv", hidden: true });
    element.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10000); // the browser reads it after the click has returned
  }

  render();
  return {
    element,
    show(nextRows, nextData) {
      const sameRows = nextRows.length === rows.length && rows.every((row, at) => row === nextRows[at]);
      const sameColumns = nextData.columns.length === data.columns.length && data.columns.every((column, at) => column === nextData.columns[at]);
      if (sameRows && sameColumns && nextData.ids === data.ids) return;
      if (!sameColumns && by !== null && by >= 0) {
        const place = nextData.columns.findIndex((column) => column.name === data.columns[by].name);
        by = place < 0 ? null : place;
      }
      if (!sameRows) { message.textContent = ""; scroll.scrollTop = 0; }
      rows = Uint32Array.from(nextRows);
      data = nextData;
      render();
    },
  };
}
