// The explorer: links the maps, card, legend, search, table and panel. It knows a host that gives data, hears events and
// answers questions; it does not know what the host is.

import { clipText, make } from "./elements.js";
import { columnText } from "./colors.js";
import { computedName, createAnswers, createColoring } from "./coloring.js";
import { createCard } from "./card.js";
import { createChoose } from "./choose.js";
import { createDrop } from "./drop.js";
import { createHistory } from "./history.js";
import { createLegend } from "./legend.js";
import { createPanel } from "./panel.js";
import { createPictures } from "./pictures.js";
import { createPlacing } from "./placing.js";
import { createProblem } from "./problem.js";
import { createProgress } from "./progress.js";
import { createRelations } from "./relations.js";
import { createSearch } from "./search.js";
import { createStage } from "./stage.js";
import { createTable } from "./table.js";
import { watchTheme } from "./theme.js";
import { createToolbar } from "./toolbar.js";

/** @typedef {import("./colors.js").Column} Column */
/**
 * @typedef {{ids: string[], maps: {name: string, title: string, note: string, graph: number, xy: Float32Array, kept: Float32Array}[],
 *   graphs: import("./relations.js").Graph[], columns: Column[], thumbnails: Uint8Array | null, offsets: Uint32Array | null, k: number,
 *   methods: {name: string, title: string}[], has_pictures: boolean, coming: boolean}} Data
 *   `kept`: share of the true neighbors that are near on this map too; `coming`: thumbnails are still being made
 * @typedef {{done: number, rows: Uint32Array, offsets: Uint32Array, files: Uint8Array}} Part thumbnails: that of rows[i] lies from
 *   offsets[i] to offsets[i + 1], empty where there is none; `done`: share of all that are made
 * @typedef {{id: string, note: string, maps: [number, number][], graphs: {rows: Int32Array,
 *   similarities: Float32Array}[], picture: Uint8Array}} Guest an image beside the explorer's own; one of the same id takes its place
 * @typedef {{query?: string | null, selection?: ArrayLike<number>, shown?: number[]}} State what is left out stays as it is
 * @typedef {{map?: number, done: number | null, xy: Float32Array | null}} Moving `done`: share of UMAP's epochs, null: the map stands;
 *   `xy`: where the points are now, null: as before
 * @typedef {{type: "query", id: string | null} | {type: "select", rows: Uint32Array} | {type: "show", maps: number[]} |
 *   {type: "stop", map?: number}} Event
 * @typedef {{data: Data, live?: boolean, send: (event: Event) => void, request: (name: string, payload: any, files?: ArrayBuffer[]) => Promise<any>,
 *   onState: (callback: (state: State) => void) => void, onMap?: (callback: (moving: Moving) => void) => void,
 *   onPictures?: (callback: (part: Part) => void) => void, onGuest?: (callback: (guest: Guest) => void) => void,
 *   onProblem?: (callback: (text: string) => void) => void, onMeasured?: (callback: () => void) => void}} Host
 *   `live`: false where nothing new can be computed; `onProblem`: an event of the user's, or the unfolding, went wrong at the other end;
 *   `onMeasured`: it is known now which method of evidence to trust
 */

const QUERY_FACTS = 5; // columns told beside the query
const ASK_AFTER = 400; // milliseconds over a point before all similarities are asked for

/** @param {HTMLElement} element @param {Host} host @returns {{destroy: () => void, setState: (state: State) => void, setData: (data: Data) => void, setMap: (moving: Moving) => void}} */
export function createExplorer(element, host) {
  const live = host.live !== false, guests = [], history = createHistory();
  let data = null, relations, pictures, panel, card, toolColumns = [], chosen = [];
  let query = -1, hovered = -1, hoveredPlace = 0, selection = new Set(), pictureShare = 0, dwell = 0;
  let mask = null, hide = false, hidden = new Set(), emphasized = null, coloredBy = null, shownCount = -1;

  const root = make("div", { class: "vizkit-explorer" });
  const status = make("span", { class: "vk-status", "data-vizkit": "status", role: "status" }), spoken = make("span", { class: "vk-spoken", "data-vizkit": "spoken", role: "status" });
  const problem = createProblem({ closed: () => stage.focus() }), { say } = problem;
  const request = (name, payload, files) => host.request(name, payload, files);
  const answers = createAnswers(request, () => { if (coloring.asks()) { coloring.refresh(); recolor(); } else renewCard(); }), coloring = createColoring(answers);
  const clearSelection = make("button", { type: "button", class: "vk-button", text: "Clear selection", hidden: true, on: { click() { stage.focus(); select(new Uint32Array(0), false); } } });
  const legend = createLegend({
    toggle(code) { if (!hidden.delete(code)) hidden.add(code); emphasized = null; recolor(); },
    emphasize(code) { emphasized = hidden.has(code) ? null : code; paint(); },
  });
  const stage = createStage({
    hover: showCard, pick, select, clear, neighborsOf: (row, map) => relations.near(row, data.maps[map].graph).rows, notify: say,
    moved: () => { if (hovered >= 0) card.place(stage.position(hovered, hoveredPlace)); },
    shown(maps) { showMaps(); send({ type: "show", maps }); },
    thumbnail: (row) => pictures.thumbnail(row), peek: (row) => pictures.peek(row),
  });
  const search = createSearch({ found(rows, alone) { mask = rows; hide = alone; paint(); }, pick: askBeside, select: (rows) => select(rows, false) });
  const choose = createChoose({ chosen(names) { chosen = names; renewCard(); } });
  const placing = createPlacing(request, { changed: tellStatus, say, settle: problem.settle });
  const drop = live ? createDrop(stage.element, { file: placing.add, problem: (text) => say(text, "place") }) : null;
  const table = createTable({ pick: askBeside, near: (row) => stage.setMarks({ near: row }), name: live ? (text) => request("name", { text }) : null });
  const progress = createProgress({ stop: () => send(data.maps.length > 1 ? { type: "stop", map: stage.unfolding()?.map } : { type: "stop" }), focusElsewhere: stage.focus });
  const left = make("div", { class: "vk-left" }, stage.element, legend.element, make("div", { class: "vk-foot" }, status, clearSelection, progress.element));
  const toolbar = createToolbar({
    color(name) { coloring.choose(name); recolor(); }, mode: stage.setMode, reset: stage.reset,
  }, { find: [search.element], more: [stage.pairing, choose.element, drop?.button ?? ""] });
  const body = make("div", { class: "vk-body" }, left);
  root.append(problem.element, toolbar.element, body, table.element, spoken);
  element.append(root);
  // On the map, Escape first takes away what is said over it.
  stage.element.addEventListener("keydown", (event) => { if (event.key === "Escape" && problem.close()) event.stopPropagation(); }, true);
  root.addEventListener("focusin", ({ target }) => { if (!target.closest(".vk-surface") && target.matches(":focus-visible")) stage.leave(); }); // or the card would stay
  root.addEventListener("keydown", (event) => {
    if (event.key !== "Backspace" || event.target.matches("input, select, textarea")) return;
    go(event.shiftKey ? history.forward() : history.back());
    event.preventDefault();
  });

  function send(event) {
    try {
      host.send(event);
      problem.settle("send");
    } catch (error) {
      say(`The kernel was not reached (${error?.message || error}). Map, hover and neighbors keep working; run the cell again to get the rest back.`, "send");
    }
  }

  // --- what is told of an image ------------------------------------------------------------------------------------

  /** @returns {number} the graph of the map in that place */
  const graphAt = (place = 0) => data.maps[stage.shown()[place] ?? stage.shown()[0]].graph;

  function similarityTo(row, place) {
    if (query < 0 || row === query) return null;
    const graph = graphAt(place), known = relations.similarity(query, row, graph);
    if (known !== null || row >= relations.n) return known;
    if (coloring.byQuery() || answers.known(graph, relations.idOf(query))) return answers.similarities(graph, relations.idOf(query)).values?.[row] ?? null;
    return null;
  }

  /** @returns {[string, string][]} label, what colors the map, other columns, similarity to the query, neighbors kept */
  function factsOf(row, place, columns) {
    const { column } = coloring.look(place), { kept } = data.maps[stage.shown()[place]], similarity = similarityTo(row, place), name = (title) => computedName(title, data.columns);
    const facts = new Map([data.columns.find((c) => c.name === "label"), column, ...columns].filter(Boolean).map((c) => [c.name, columnText(c, row)]));
    if (similarity !== null) facts.set(name("similarity"), similarity.toFixed(3).replace("-", "−"));
    if (Number.isFinite(kept[row])) facts.set(name("neighbors kept"), columnText({ kind: "number", values: kept }, row));
    return [...facts];
  }

  function labelOf(row) {
    const column = data.columns.find((c) => c.name === "label") ?? coloring.look().column;
    return column && row < relations.n ? columnText(column, row) : relations.idOf(row);
  }

  function showCard(row, place, byKey) {
    hovered = row;
    hoveredPlace = place;
    clearTimeout(dwell);
    if (row < 0) { card.hide(); return; }
    const id = relations.idOf(row), facts = factsOf(row, place, data.columns.filter((column) => chosen.includes(column.name)));
    card.show({ row, id, facts, alike: stage.alikeAt(row, place) }, stage.surface(place), stage.position(row, place));
    if (byKey) spoken.textContent = clipText([id, ...facts.map(([name, text]) => `${name} ${text}`)].join(", "), 300);
    if (query >= 0 && row !== query && similarityTo(row, place) === null) {
      dwell = setTimeout(() => { answers.similarities(graphAt(place), relations.idOf(query)); }, ASK_AFTER);
    }
  }

  function renewCard() {
    if (hovered >= 0) showCard(hovered, hoveredPlace, false);
  }

  // --- color -------------------------------------------------------------------------------------------------------

  function recolor() {
    const { scale } = coloring.look(), { name } = coloring.choices();
    if (name !== coloredBy) { hidden.clear(); emphasized = null; } // what was hidden is of another legend
    coloredBy = name;
    legend.show(scale, name, hidden, coloring.note());
    paint();
    if (query >= 0) panel.recolor(Array.from(relations.near(query, graphAt()).rows, (row) => scale.colorOf(row)));
    renewCard();
  }

  function paint() {
    const painted = coloring.paint({ selection, mask, hide, hidden, emphasized }), { shown } = painted[0];
    stage.paint(painted);
    const inSight = shown ? shown.subarray(0, relations.n).reduce((sum, one) => sum + one, 0) : relations.n;
    if (inSight !== shownCount) { shownCount = inSight; tellStatus(); }
  }

  // --- query -------------------------------------------------------------------------------------------------------

  /** A point was clicked: the panel may be waiting for one, else it becomes the query. */
  function pick(row) {
    const thumbnail = pictures.thumbnail(row), similarity = query < 0 ? null : similarityTo(row, 0);
    if (panel.take({ row, id: relations.idOf(row), label: labelOf(row), similarity, percentile: relations.percentile(similarity ?? NaN, graphAt()), thumbnail })) return;
    ask(row);
  }

  /** The user makes a row the query. */
  function ask(row) {
    if (row === query) return;
    visit(row);
    send({ type: "query", id: row < 0 ? null : relations.idOf(row) });
  }

  /** The same, away from the map: there the row may lie out of sight. */
  function askBeside(row) {
    ask(row);
    stage.reveal(row);
  }

  function visit(row) {
    if (row < 0) history.leave();
    else history.visit(row);
    setQuery(row);
  }

  /** Back, forward, or to a place of the trail. */
  function go(row) {
    if (row < 0) return;
    setQuery(row);
    stage.reveal(row);
    send({ type: "query", id: relations.idOf(row) });
  }

  function clear() {
    if (panel.leave()) return;
    if (query >= 0) ask(-1);
    else if (selection.size) select(new Uint32Array(0), false);
  }

  function setQuery(row) {
    query = row;
    coloring.setQuery(row);
    stage.setMarks({ query: row, near: -1 });
    showPanel();
    if (coloring.byQuery()) recolor();
    else renewCard();
  }

  function showPanel() {
    const { rows, ...steps } = history.state();
    panel.show(query < 0 ? null : queryItem(), { ...steps, trail: rows.map((row) => ({ row, id: relations.idOf(row), thumbnail: pictures.thumbnail(row) })) });
  }

  function queryItem() {
    const graph = graphAt(), { rows, similarities } = relations.near(query, graph), { scale } = coloring.look(), guest = guests[query - relations.n];
    const other = stage.shown().length > 1 && graphAt(1) !== graph ? new Set(relations.near(query, graphAt(1)).rows) : null;
    return {
      row: query, id: relations.idOf(query), graph, guest: Boolean(guest), note: guest?.note ?? "", facts: factsOf(query, 0, data.columns).slice(0, QUERY_FACTS),
      thumbnail: pictures.thumbnail(query), sharp: pictures.sharp(query), can_explain: data.graphs[graph].can_explain, why_not: data.graphs[graph].why_not, percentileOf: (value) => relations.percentile(value, graph),
      neighbors: Array.from(rows, (row, i) => ({
        row, id: relations.idOf(row), label: labelOf(row), similarity: similarities[i], percentile: relations.percentile(similarities[i], graph),
        only_here: Boolean(other && !other.has(row)), color: scale.colorOf(row), thumbnail: pictures.thumbnail(row),
      })),
    };
  }

  // --- selection ---------------------------------------------------------------------------------------------------

  function select(rows, add) {
    const own = rows.filter((row) => row < relations.n); // guests are nobody's rows
    const next = add && selection.size ? Uint32Array.from(new Set([...selection, ...own])).sort() : own;
    showSelection(next);
    send({ type: "select", rows: next });
  }

  function showSelection(rows) {
    selection = new Set(rows);
    clearSelection.hidden = !selection.size;
    paint();
    showTable();
    tellStatus();
  }

  function showTable() {
    table.element.hidden = !selection.size;
    if (selection.size) table.show(Uint32Array.from(selection), { ids: data.ids, columns: toolColumns });
  }

  function tellStatus() {
    const count = (n, word) => `${n.toLocaleString("en-US")} ${word}${n === 1 ? "" : "s"}`;
    status.textContent = [
      shownCount < data.ids.length ? `${shownCount.toLocaleString("en-US")} of ${count(data.ids.length, "image")} shown` : count(data.ids.length, "image"), guests.length ? `${guests.length} added` : "", selection.size ? `${selection.size.toLocaleString("en-US")} selected` : "",
      placing.waiting() ? "Placing the image…" : "",
    ].filter(Boolean).join(" · ");
  }

  // --- maps, guests, data ------------------------------------------------------------------------------------------

  /** Other maps are shown, or the same in another place. */
  function showMaps() {
    const maps = stage.shown();
    coloring.setData(data, relations, maps);
    body.toggleAttribute("data-two", maps.length > 1);
    if (hoveredPlace >= maps.length) { hovered = -1; card.hide(); }
    showTools();
    toolbar.setColors(coloring.choices());
    recolor();
    showPanel();
    tellProgress();
  }

  /** Search and table know the columns, and what the main map keeps. */
  function showTools() {
    const { kept } = data.maps[stage.shown()[0]], last = toolColumns.at(-1), name = computedName("neighbors kept", data.columns);
    const next = [...data.columns, last?.values === kept && last.name === name ? last : { name, kind: "number", values: kept }];
    if (next.length === toolColumns.length && next.every((column, i) => column === toolColumns[i])) return;
    toolColumns = next;
    search.setData({ ids: data.ids, columns: toolColumns });
    choose.setData(data.columns);
    showTable();
  }

  /** A frame of a map that unfolds: positions only, so that nothing else is built anew. */
  function setMap({ map = 0, done, xy }) {
    if (!data.maps[map]) return;
    stage.setFrame(map, done, xy && xy.length === 2 * data.ids.length ? xy : null);
    tellProgress();
  }

  function tellProgress() {
    const now = stage.unfolding();
    progress.show(now?.done ?? null, now && data.maps.length > 1 ? clipText(data.maps[now.map].name, 40) : "");
  }

  function addGuest(guest) {
    const known = guests.findIndex(({ id }) => id === guest.id), at = known < 0 ? guests.length : known;
    guests[at] = guest;
    pictures.addGuest(relations.n + at, guest.id, guest.picture);
    stage.setGuests(guests);
    paint();
    tellStatus();
    if (query === relations.n + at) setQuery(query);
  }

  /** Thumbnails that were made: who waits for one is served, and nothing else changes. */
  function addPictures(part) {
    pictures.add(part);
    pictureShare = part.done;
    progress.showPictures(data.coming ? pictureShare : null);
  }

  function setState(state) {
    const maps = state.shown?.filter((map) => data.maps[map]);
    if (maps?.length && String(maps) !== String(stage.shown())) { stage.show(maps); showMaps(); }
    const row = state.query === undefined ? query : state.query === null ? -1 : relations.rowOf(state.query);
    if (row !== query) visit(row);
    const rows = state.selection;
    if (rows && (rows.length !== selection.size || Array.from(rows).some((r) => !selection.has(r)))) showSelection(rows);
  }

  function setData(next) {
    const before = data, sameImages = before !== null && before.ids.length === next.ids.length && before.ids.every((id, row) => id === next.ids[row]);
    if (sameImages) next.ids = before.ids;
    data = next;
    const newGraph = !sameImages || next.graphs.length !== before.graphs.length || next.graphs.some(({ indices, similarities }, i) => indices !== before.graphs[i].indices || similarities !== before.graphs[i].similarities);
    if (!sameImages) begin();
    if (newGraph) { relations = createRelations(data, guests); answers.forget(true); }
    if (sameImages) pictures.setData(data);
    else pictures = createPictures(data, (id) => host.request("picture", { id }));
    if (!sameImages || JSON.stringify(next.methods) !== JSON.stringify(before.methods)) buildPanel();
    if (drop) drop.button.hidden = data.graphs.some((graph) => !graph.can_explain); // without the network nothing can be placed
    progress.showPictures(data.coming ? pictureShare : null);
    stage.setData(data, sameImages);
    if (!sameImages) { card?.destroy(); card = createCard(pictures, stage.surface(0)); }
    showMaps();
    tellStatus();
  }

  function begin() {
    query = hovered = -1;
    selection = new Set();
    guests.length = 0;
    history.forget();
    clearSelection.hidden = table.element.hidden = true;
    mask = null;
    hidden.clear();
    coloring.setQuery(-1);
  }

  function buildPanel() {
    panel?.destroy();
    panel?.element.remove();
    panel = createPanel({ methods: data.methods, live }, {
      pick: askBeside, back: () => go(history.back()), forward: () => go(history.forward()), jump: (place) => go(history.jump(place)), clear,
      near: (row) => stage.setMarks({ near: row }), request,
    });
    left.after(panel.element);
  }

  toolbar.setMode("pan");
  setData(host.data);
  const stopTheme = watchTheme(root, (theme) => { stage.setTheme(theme); coloring.setDark(theme.dark); recolor(); panel.repaint(); });
  host.onProblem?.(say);
  host.onMeasured?.(() => panel.measured());
  host.onMap?.(setMap);
  host.onPictures?.(addPictures);
  host.onGuest?.(addGuest);
  host.onState(setState);
  root.vizkit = {
    /** @param {string} id @param {number} place 0, or 1 for the second map @returns {{x: number, y: number}} client pixels of an image's point */
    positionOf(id, place = 0) {
      const box = stage.surface(place).getBoundingClientRect(), [x, y] = stage.position(relations.rowOf(id), place);
      return { x: box.left + x, y: box.top + y };
    },
  };

  return {
    setState,
    setData,
    setMap,
    destroy() {
      stopTheme();
      clearTimeout(dwell);
      drop?.destroy();
      panel.destroy();
      card.destroy();
      stage.destroy();
      root.remove();
    },
  };
}
