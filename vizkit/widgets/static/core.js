// The explorer: links map, card, legend, panel and evidence. It knows a host that gives data, hears events and answers
// questions; it does not know what the host is.

import { clipText, make } from "./elements.js";
import { columnScale, columnText } from "./colors.js";
import { createCard } from "./card.js";
import { createInquiry, inParts } from "./inquiry.js";
import { createLegend } from "./legend.js";
import { createMap } from "./map.js";
import { createPanel } from "./panel.js";
import { createPictures } from "./pictures.js";
import { createProgress } from "./progress.js";
import { watchTheme } from "./theme.js";

/** @typedef {import("./colors.js").Column} Column */
/**
 * @typedef {{ids: string[], xy: Float32Array, columns: Column[], thumbnails: Uint8Array | null, offsets: Uint32Array | null,
 *   graph: Int32Array, similarities: Float32Array, k: number, methods: {name: string, title: string}[], can_explain: boolean,
 *   why_not: string, has_pictures: boolean, title: string, note: string, coming?: boolean}} Data
 *   `coming`: thumbnails are still being made
 * @typedef {{done: number, rows: Uint32Array, offsets: Uint32Array, files: Uint8Array}} Part thumbnails: that of rows[i] lies from
 *   offsets[i] to offsets[i + 1], empty where there is none; `done`: share of all that are made
 * @typedef {{query?: string | null, selection?: ArrayLike<number>}} State what is left out stays as it is
 * @typedef {{done: number | null, xy: Float32Array | null}} Moving `done`: share of UMAP's epochs, null: the map stands;
 *   `xy`: where the points are now, null: as before
 * @typedef {{data: Data, send: (event: {type: "query", id: string | null} | {type: "select", rows: Uint32Array} | {type: "stop"}) => void,
 *   request: (type: "evidence" | "picture", payload: any) => Promise<any>, onState: (callback: (state: State) => void) => void,
 *   onMap?: (callback: (moving: Moving) => void) => void, onPictures?: (callback: (part: Part) => void) => void, onProblem?: (callback: (text: string) => void) => void}} Host
 *   `onMap`: a map unfolds; `onPictures`: thumbnails are made; `onProblem`: an event of the user's, or the unfolding, went wrong at the other end
 */

const NO_COLUMN = "";
const QUERY_FACTS = 5; // columns told beside the query

/** @param {HTMLElement} element @param {Host} host @returns {{destroy: () => void, setState: (state: State) => void, setData: (data: Data) => void, setMap: (moving: Moving) => void}} */
export function createExplorer(element, host) {
  const root = make("div", { class: "vizkit-explorer" });
  let data, rowOf, pictures, panel, inquiry, card;
  let query = -1, trail = [], selection = new Set(), method = null, colorName = null, colorChosen = false, hiddenEntries = new Set(), emphasized = null, dark = false, hovered = -1, pictureShare = 0;
  let scale = columnScale(null, false);

  const status = make("span", { class: "vk-status", "data-vizkit": "status", role: "status" });
  const problem = make("div", { class: "vk-problem", role: "alert", hidden: true });
  const heading = make("div", { class: "vk-title" }), note = make("div", { class: "vk-note vk-quiet" });
  const colorBy = make("select", { class: "vk-select", "data-vizkit": "colorby", on: { change: () => { colorName = colorBy.value; colorChosen = true; hiddenEntries.clear(); recolor(); } } });
  const clearSelection = make("button", { type: "button", class: "vk-button", text: "Clear selection", hidden: true, on: { click: () => select(new Uint32Array(0), false) } });
  const legend = createLegend({
    toggle(code) { if (!hiddenEntries.delete(code)) hiddenEntries.add(code); recolor(); },
    emphasize(code) { emphasized = code; paint(); },
  });
  const map = createMap({ hover: showCard, pick: (row) => ask(row), select, clear, neighborsOf: neighborRows, moved: () => { if (hovered >= 0) card.place(map.position(hovered)); }, notify: (text) => say(text) });
  const modes = ["pan", "box", "lasso"].map((mode) => make("button", {
    type: "button", class: "vk-button", "data-mode": mode, text: { pan: "Pan", box: "Box", lasso: "Lasso" }[mode],
    title: { pan: "Drag to move; wheel zooms; double click shows all", box: "Drag a box to select (or Shift and drag)", lasso: "Draw around points to select (or Alt and drag)" }[mode],
    on: { click: () => setMode(mode) },
  }));
  const fit = make("button", { type: "button", class: "vk-button", text: "Show all", title: "Show all points (0, or double click)", on: { click: () => map.reset() } });
  const progress = createProgress({ stop: () => send({ type: "stop" }), focusElsewhere: () => map.surface.focus({ preventScroll: true }) });
  const nothing = make("p", { class: "vk-nothing", text: "There are no images to show.", hidden: true });
  const left = make("div", { class: "vk-left" },
    make("div", { class: "vk-toolbar" }, make("label", { class: "vk-row" }, make("span", { class: "vk-quiet", text: "Color by" }), colorBy), make("div", { class: "vk-group", role: "group", "aria-label": "What dragging does" }, ...modes), fit),
    map.surface, legend.element, make("div", { class: "vk-foot" }, status, clearSelection, progress.element));
  map.surface.append(nothing);
  root.append(make("header", { class: "vk-header" }, heading, note), problem, make("div", { class: "vk-body" }, left));
  element.append(root);

  /** Something went wrong that nobody else shows. */
  function say(text) {
    problem.textContent = text;
    problem.hidden = !text;
    if (text) problem.dataset.vizkit = "error";
    else delete problem.dataset.vizkit;
  }

  function send(event) {
    try {
      host.send(event);
    } catch (error) {
      say(`The kernel was not reached (${error?.message || error}). Map, hover and neighbors keep working.`);
    }
  }

  function setMode(mode) {
    map.setMode(mode);
    for (const button of modes) button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
  }

  function neighborRows(row) {
    const rows = data.graph.subarray(row * data.k, (row + 1) * data.k);
    return rows.includes(-1) ? rows.filter((r) => r >= 0) : rows;
  }

  function similarityTo(row) {
    if (query < 0 || row === query) return null;
    const at = data.graph.subarray(query * data.k, (query + 1) * data.k).indexOf(row);
    return at < 0 ? null : data.similarities[query * data.k + at];
  }

  /** @returns {[string, string][]} what is said about a row: label, the column that colors the map, similarity to the query */
  function factsOf(row, columns = []) {
    const label = data.columns.find((c) => c.name === "label");
    const facts = [...new Set([label, colorColumn(), ...columns])].filter(Boolean).map((c) => [c.name, columnText(c, row)]);
    const similarity = similarityTo(row);
    if (similarity !== null) facts.push(["similarity", similarity.toFixed(3).replace("-", "−")]);
    return facts;
  }

  function labelOf(row) {
    const column = data.columns.find((c) => c.name === "label") ?? colorColumn();
    return column ? columnText(column, row) : data.ids[row];
  }

  function showCard(row) {
    hovered = row;
    if (row < 0) card.hide();
    else card.show({ row, id: data.ids[row], facts: factsOf(row) }, map.position(row));
  }

  // --- color -------------------------------------------------------------------------------------------------------

  function colorColumn() {
    return data.columns.find((c) => c.name === colorName) ?? null;
  }

  function fillColorBy() {
    colorBy.replaceChildren(make("option", { value: NO_COLUMN, text: "nothing" }), ...data.columns.map((c) => make("option", { value: c.name, text: clipText(c.name, 60) })));
    if (!colorChosen || (colorName && !colorColumn())) {
      const first = data.columns.find((c) => c.name === "label") ?? data.columns.find((c) => c.kind === "category") ?? data.columns[0];
      colorName = first?.name ?? NO_COLUMN;
    }
    colorBy.value = colorName;
  }

  function recolor() {
    scale = columnScale(colorColumn(), dark);
    legend.show(scale, colorName ?? "", hiddenEntries);
    paint();
    if (query >= 0) panel.recolor(Array.from(neighborRows(query), (row) => scale.colorOf(row)));
    if (hovered >= 0) showCard(hovered);
  }

  function entryOf(row) {
    if (scale.kind === "category") return scale.entryOf(row);
    return scale.kind === "number" && !Number.isFinite(colorColumn().values[row]) ? -1 : 0;
  }

  function paint() {
    const n = data.ids.length, rgba = new Uint8Array(4 * n), shown = hiddenEntries.size ? new Uint8Array(n).fill(1) : null;
    const solid = n > 20000 ? 190 : n > 4000 ? 215 : 235, faint = 45;
    const picks = emphasized !== null || hiddenEntries.size > 0;
    for (let row = 0; row < n; row++) {
      let opacity = selection.size && !selection.has(row) ? faint : solid;
      if (picks) {
        const entry = entryOf(row);
        if (emphasized !== null && entry !== emphasized) opacity = faint;
        if (hiddenEntries.has(entry)) { opacity = 0; shown[row] = 0; }
      }
      const color = scale.colorOf(row);
      rgba[4 * row] = color[0];
      rgba[4 * row + 1] = color[1];
      rgba[4 * row + 2] = color[2];
      rgba[4 * row + 3] = opacity;
    }
    map.setColors(rgba, shown);
  }

  // --- query and selection -----------------------------------------------------------------------------------------

  /** The user makes a row the query. */
  function ask(row) {
    if (row === query) return;
    if (query >= 0) trail.push(query);
    setQuery(row);
    send({ type: "query", id: row < 0 ? null : data.ids[row] });
  }

  function goBack() {
    if (!trail.length) return;
    setQuery(trail.pop());
    send({ type: "query", id: data.ids[query] });
  }

  function clear() {
    if (query >= 0) ask(-1);
    else if (selection.size) select(new Uint32Array(0), false);
  }

  function setQuery(row) {
    query = row;
    const neighbors = row < 0 ? [] : Array.from(neighborRows(row));
    map.setMarks({ query: row, neighbors, near: -1 });
    panel.show(row < 0 ? null : {
      row, id: data.ids[row], facts: factsOf(row, data.columns).slice(0, QUERY_FACTS), thumbnail: pictures.thumbnail(row), sharp: pictures.sharp(row),
      neighbors: neighbors.map((r, i) => ({ row: r, id: data.ids[r], label: labelOf(r), similarity: data.similarities[row * data.k + i], color: scale.colorOf(r), thumbnail: pictures.thumbnail(r) })),
    }, trail.length > 0);
    if (hovered >= 0) showCard(hovered);
    askEvidence();
    tellStatus();
  }

  function askEvidence() {
    if (query < 0 || !data.can_explain || !data.k) { inquiry.drop(); return; }
    inquiry.ask({ query: data.ids[query], neighbors: Array.from(neighborRows(query), (row) => data.ids[row]), method });
  }

  function select(rows, add) {
    const next = add && selection.size ? Uint32Array.from(new Set([...selection, ...rows])).sort() : rows;
    showSelection(next);
    send({ type: "select", rows: next });
  }

  function showSelection(rows) {
    selection = new Set(rows);
    clearSelection.hidden = !selection.size;
    paint();
    tellStatus();
  }

  function tellStatus() {
    const count = (n, word) => `${n.toLocaleString("en-US")} ${word}${n === 1 ? "" : "s"}`;
    status.textContent = [count(data.ids.length, "image"), selection.size ? `${selection.size.toLocaleString("en-US")} selected` : ""].filter(Boolean).join(" · ");
  }

  // --- data --------------------------------------------------------------------------------------------------------

  function setState(state) {
    const row = state.query === undefined ? query : (rowOf.get(state.query) ?? -1);
    if (row !== query) {
      if (query >= 0) trail.push(query);
      setQuery(row);
    }
    const rows = state.selection;
    if (rows && (rows.length !== selection.size || Array.from(rows).some((r) => !selection.has(r)))) showSelection(rows);
  }

  function setData(next) {
    const before = data, sameImages = before && before.ids.length === next.ids.length && before.ids.every((id, row) => id === next.ids[row]);
    data = next;
    heading.textContent = clipText(next.title ?? "", 160);
    heading.hidden = !next.title;
    note.textContent = clipText(next.note ?? "", 300);
    nothing.hidden = next.ids.length > 0;
    map.surface.setAttribute("aria-label", `Map of ${next.ids.length} images. Arrow keys move from image to image, Enter shows neighbors, plus and minus zoom, 0 shows all, Escape clears.`);
    const redo = !sameImages || next.graph !== before.graph || JSON.stringify(optionsOf(next)) !== JSON.stringify(optionsOf(before));
    if (sameImages) pictures.setData(data);
    else pictures = createPictures(data, (id) => host.request("picture", { id }));
    progress.showPictures(data.coming ? pictureShare : null);
    if (redo) rebuild(sameImages);
    if (!sameImages || next.xy !== before.xy) map.setPositions(next.xy, query);
    fillColorBy();
    recolor();
    if (redo) setQuery(query);
    tellStatus();
  }

  /** A frame of a map that unfolds: positions only, so that nothing else is built anew. */
  function setMap({ done, xy }) {
    if (xy && xy.length === 2 * data.ids.length) map.setPositions(xy, query, done !== null);
    progress.show(done);
  }

  /** Thumbnails that were made: who waits for one is served, and nothing else changes. */
  function addPictures(part) {
    pictures.add(part);
    pictureShare = part.done;
    progress.showPictures(data.coming ? pictureShare : null);
  }

  function rebuild(sameImages) {
    rowOf = new Map(data.ids.map((id, row) => [id, row]));
    if (!sameImages) { query = -1; trail = []; selection = new Set(); clearSelection.hidden = true; hovered = -1; }
    card?.destroy();
    panel?.element.remove();
    inquiry?.destroy();
    card = createCard(map.surface, pictures);
    panel = createPanel(optionsOf(data), {
      pick: ask, back: goBack, clear, method(name) { method = name; askEvidence(); }, near: (row) => map.setMarks({ near: row }),
    });
    inquiry = createInquiry(inParts((question) => host.request("evidence", question)), (answer) => panel.setEvidence(answer));
    left.after(panel.element);
  }

  setMode("pan");
  setData(host.data);
  const stopTheme = watchTheme(root, (theme) => { dark = theme.dark; map.setTheme(theme); recolor(); panel.repaint(); });
  host.onProblem?.(say);
  host.onMap?.(setMap);
  host.onPictures?.(addPictures);
  host.onState(setState);
  root.vizkit = {
    /** @param {string} id @returns {{x: number, y: number}} client pixels of an image's point */
    positionOf(id) {
      const box = map.surface.getBoundingClientRect(), [x, y] = map.position(rowOf.get(id));
      return { x: box.left + x, y: box.top + y };
    },
  };

  return {
    setState,
    setData,
    setMap,
    destroy() {
      stopTheme();
      inquiry.destroy();
      card.destroy();
      map.destroy();
      root.remove();
    },
  };
}

const optionsOf = ({ methods, can_explain, why_not, has_pictures }) => ({ methods, can_explain, why_not, has_pictures });
