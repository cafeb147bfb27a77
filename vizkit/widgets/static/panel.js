// The panel: the query, its neighbors with what makes them alike, one pair patch by patch, and two in contrast.

import { clipText, make } from "./elements.js";
import { formatNumber } from "./colors.js";
import { createContrast } from "./contrast.js";
import { cellAt, decodeSeen, drawPicture } from "./evidence.js";
import { SILENT, createInquiry, inStages } from "./inquiry.js";
import { createMethod } from "./method.js";
import { createPair } from "./pair.js";
import { createTiles } from "./tiles.js";
import { createTrail } from "./trail.js";

/** @typedef {import("./tiles.js").Neighbor} Neighbor */
/**
 * @typedef {{row: number, id: string, graph: number, guest?: boolean, note?: string, facts: [string, string][], can_explain: boolean, why_not: string,
 *   thumbnail: Promise<ImageBitmap | null>, sharp: Promise<ImageBitmap | null>, neighbors: Neighbor[],
 *   percentileOf?: (similarity: number) => number | null}} Item percentileOf: where a cosine stands among random pairs here, in percent
 */

const QUERY_SIZE = 152; // CSS pixels, where nothing is laid out yet
const NO_HISTORY = { back: false, forward: false, trail: [], at: -1 };

/**
 * @param {{methods: {name: string, title: string}[], live?: boolean}} options live: false where no kernel will ever answer
 * @param {{pick: (row: number) => void, back: () => void, forward: () => void, jump: (index: number) => void, clear: () => void,
 *   near: (row: number) => void, request: (name: string, payload: any) => Promise<any>}} told `near(-1)`: no neighbor is pointed at any more
 */
export function createPanel(options, told) {
  const trail = createTrail(told), queryPicture = make("canvas", { class: "vk-query-image", role: "img" });
  const queryName = make("div", { class: "vk-query-id", dir: "auto" }), queryNote = make("div", { class: "vk-query-note", "data-vizkit": "note" }), queryFacts = make("dl", { class: "vk-facts" });
  const query = make("section", { class: "vk-query", "data-vizkit": "query", "aria-label": "Query" }, queryPicture,
    make("div", { class: "vk-query-text" }, make("div", { class: "vk-over", text: "Query" }), queryName, queryNote, queryFacts));
  const empty = make("p", { class: "vk-empty", text: "Click a point to see its neighbors." });
  const tiles = createTiles({ pick: pickTile, match: openPair, point: pointAt, read: (index, cell) => read(cell) });
  const pair = createPair({ request: told.request, close: leave, step: (by) => openPair(paired + by) });
  const contrast = createContrast({ request: told.request, close: leave, changed: paintPicking });
  const method = createMethod(options, contrast.banner, { method: chooseMethod, opacity: paintAll, contrast: togglePicking });
  const overview = make("div", { class: "vk-overview" }, query, method.element, tiles.element);
  const element = make("aside", { class: "vk-panel", "aria-label": "Query and neighbors", on: { keydown: onKey } }, empty, trail.element, overview, pair.element, contrast.element);
  const inquiry = createInquiry(inStages((question) => told.request("evidence", question)), hear);
  const resized = new ResizeObserver(paintAll);
  resized.observe(element);

  /** @type {Item | null} */ let item = null;
  let reply = null, wanted = null, quietly = false, paired = 0, images = {}, value = null, turn = 0;

  // --- evidence ------------------------------------------------------------------------------------------------------

  /** @param {boolean} again what is shown stays until the answer has come, and where none comes */
  function ask(again = false) {
    quietly = again && reply !== null;
    if (!item?.neighbors.length || !item.can_explain) { inquiry.drop(); return; }
    inquiry.ask({ graph: item.graph, query: item.id, neighbors: item.neighbors.map((n) => n.id), method: wanted });
  }

  function chooseMethod(name) {
    wanted = name;
    ask();
  }

  /** @param {import("./inquiry.js").Answer} answer */
  function hear(answer) {
    if (quietly && ["loading", "slow", "error"].includes(answer.status)) return;
    element.dataset.evidence = answer.status;
    if (answer.status === "ready") { showReply(answer.reply); return; }
    if (answer.status === "loading") { forgetReply(); method.say("Computing evidence…", "loading"); }
    if (answer.status === "slow") method.say(`${SILENT} Map, hover and neighbors keep working.`, "error");
    if (answer.status === "error") { forgetReply(); method.say(answer.message, answer.quiet ? "quiet" : "error"); }
    paintAll();
  }

  async function showReply(next) {
    // Pictures take their time: a reply that was overtaken by a newer one must not come back.
    const mine = ++turn, seen = await Promise.all([decodeSeen(next.query_seen), ...next.pairs.map((p) => decodeSeen(p.seen))]);
    if (mine !== turn || !item) return;
    // Pairs are matched by id: the kernel may leave one out, and a slow method sends one after the other.
    const places = new Map(next.pairs.map((p, i) => [p.id, i]));
    reply = { ...next, pairs: item.neighbors.map((n) => next.pairs[places.get(n.id)] ?? null) };
    images.seen = seen[0];
    item.neighbors.forEach((n, i) => tiles.setSeen(i, places.has(n.id) ? seen[1 + places.get(n.id)] : null));
    method.show(next);
    sayProgress(next);
    paintAll();
    pair.renew({ images: pairImages(), maps: pairMaps() });
  }

  function sayProgress({ pending, coming, failed, pairs }) {
    const count = (done, total) => `${done} of ${total} neighbors`;
    if (failed) method.say(`The better method did not come: ${failed}`, "error");
    else if (coming) method.say(`${method.title(coming.method)}, the better method here: ${count(coming.done, coming.total)}`, "loading");
    else if (pending?.length) method.say(`Computing: ${count(pairs.length, pairs.length + pending.length)}`, "loading");
    else method.say("");
  }

  function forgetReply() {
    turn++;
    reply = value = null;
    images.seen = null;
    item?.neighbors.forEach((_, i) => tiles.setSeen(i, null));
    method.show(null);
  }

  function evidenceOf(side, index) {
    const found = reply?.pairs[index];
    if (!found) return null;
    return { map: found[`map_${side}`], rows: found[`rows_${side}`], cols: found[`cols_${side}`], signed: reply.signed, limit: reply.limit, unit: reply.unit };
  }

  // --- painting ------------------------------------------------------------------------------------------------------

  function paintQuery() {
    queryPicture.place = drawPicture(queryPicture, queryPicture.clientWidth || QUERY_SIZE, images.seen ?? images.sharp ?? images.query, images.seen ? evidenceOf("a", paired) : null, method.opacity());
  }

  function paintScale() {
    const about = item?.neighbors.length > 1 ? ` · query: for neighbor ${paired + 1}` : "";
    const text = value ? `${formatNumber(value.value)} ${reply?.unit} · row ${value.row + 1}, column ${value.col + 1}` : `${reply?.unit}${about}${images.seen ? " · the network’s view" : ""}`;
    method.scale(reply ? { signed: reply.signed, limit: reply.limit, text } : null, value?.value ?? null);
  }

  function paintAll() {
    if (!item) return;
    paintQuery();
    tiles.paint((index) => evidenceOf("b", index), method.opacity());
    tiles.frame(reply ? paired : -1);
    paintScale();
    pair.paint();
    contrast.paint();
  }

  /** Another neighbor is pointed at: the query's map for it is shown, and the map of points is told. */
  function pointAt(index) {
    told.near(index < 0 ? -1 : item.neighbors[index].row);
    if (index < 0 || index === paired) return;
    paired = index;
    paintQuery();
    tiles.frame(reply ? paired : -1);
    paintScale();
  }

  function read(cell) {
    if (cell?.row === value?.row && cell?.col === value?.col && cell?.value === value?.value) return;
    value = cell;
    paintScale();
  }
  queryPicture.addEventListener("pointermove", (event) => {
    const box = queryPicture.getBoundingClientRect();
    read(images.seen ? cellAt(queryPicture.place, evidenceOf("a", paired), event.clientX - box.left, event.clientY - box.top) : null);
  });
  queryPicture.addEventListener("pointerenter", paintQuery);
  queryPicture.addEventListener("pointerleave", () => { read(null); paintQuery(); });

  // --- views: all neighbors, one pair, a contrast --------------------------------------------------------------------

  const pairImages = () => ({ a: images.seen ?? images.sharp ?? images.query, b: tiles.imageOf(paired) });
  const pairMaps = () => (evidenceOf("a", paired) ? { a: evidenceOf("a", paired), b: evidenceOf("b", paired) } : null);

  function showView() {
    const large = !pair.element.hidden || contrast.isOpen();
    overview.hidden = large || !item;
  }

  function openPair(index) {
    const neighbor = item?.neighbors[index], walking = !pair.element.hidden;
    if (!neighbor || !item.can_explain) return;
    contrast.stop();
    paired = index;
    pair.show({ graph: item.graph, query: item, neighbor, rank: index + 1, count: item.neighbors.length, images: pairImages(), maps: pairMaps() });
    showView();
    pair.paint();
    if (!walking) pair.focus();
    told.near(neighbor.row);
  }

  function togglePicking() {
    if (contrast.isPicking()) { contrast.stop(); return; }
    contrast.start({ graph: item.graph, id: item.id, row: item.row, image: images.sharp ?? images.query, method: wanted, percentileOf: item.percentileOf });
  }

  function paintPicking() {
    const taken = contrast.taken();
    method.picking(contrast.isPicking(), Boolean(item?.neighbors.length));
    element.toggleAttribute("data-picking", contrast.isPicking());
    tiles.choose(taken < 0 ? -1 : item.neighbors.findIndex((n) => n.row === taken));
  }

  function pickTile(index) {
    if (contrast.isPicking()) take(item.neighbors[index]);
    else told.pick(item.neighbors[index].row);
  }

  /** @param {import("./contrast.js").Choice} choice @returns {boolean} whether an image was awaited, and is taken */
  function take(choice) {
    if (!item || !contrast.isPicking()) return false;
    if (contrast.pick(choice)) {
      showView();
      contrast.paint();
      contrast.focus();
    }
    return true;
  }

  /** Leave what is open, one step at a time. @returns {boolean} whether anything was */
  function leave() {
    const closing = !pair.element.hidden || contrast.isOpen(), picking = contrast.isPicking(), hadFocus = element.contains(document.activeElement);
    if (!closing && !picking) return false;
    const wasPair = !pair.element.hidden;
    closeViews();
    if (hadFocus && wasPair) tiles.focus(paired);
    else if (hadFocus) method.focusContrast();
    paintAll();
    return true;
  }

  function closeViews() {
    if (!pair.element.hidden) { pair.show(null); told.near(-1); }
    contrast.close();
    showView();
  }

  function onKey(event) {
    if (event.key === "Escape") { if (!pair.release() && !leave()) told.clear(); }
    else if (event.altKey || event.ctrlKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    else if (event.key === "Backspace") { if (event.shiftKey) told.forward(); else told.back(); }
    else if (event.key.toLowerCase() === "m" && tiles.focused() >= 0) openPair(tiles.focused());
    else if (!tiles.walk(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  // --- what is shown -------------------------------------------------------------------------------------------------

  const sameQuestion = (a, b) => Boolean(a && b) && a.id === b.id && a.graph === b.graph && a.can_explain === b.can_explain
    && a.neighbors.length === b.neighbors.length && a.neighbors.every((n, i) => n.id === b.neighbors[i].id && n.similarity === b.neighbors[i].similarity && n.only_here === b.neighbors[i].only_here);

  function showQuery() {
    query.dataset.id = item.id;
    queryName.textContent = queryName.title = clipText(item.id);
    queryNote.textContent = clipText(item.note ?? "", 300);
    queryNote.hidden = !item.note;
    queryPicture.setAttribute("aria-label", `Query picture ${clipText(item.id, 120)}`);
    queryFacts.replaceChildren(...item.facts.flatMap(([key, text]) => [make("dt", { text: clipText(key, 40), dir: "auto" }), make("dd", { text: clipText(text), dir: "auto" })]));
  }

  function loadPictures(shown) {
    const keep = (name) => (bitmap) => {
      if (item?.id !== shown.id || !bitmap) return;
      images[name] = bitmap;
      paintQuery();
      pair.renew({ images: pairImages() });
    };
    shown.thumbnail.then(keep("query"), () => {});
    shown.sharp.then(keep("sharp"), () => {});
  }

  function showItem(next) {
    const hadFocus = tiles.hasFocus();
    if (item && item.graph !== next.graph) method.forgetVerdicts();
    item = next;
    paired = 0;
    images = {};
    turn++;
    reply = value = null;
    closeViews();
    showQuery();
    tiles.show(next.neighbors, next.can_explain);
    method.show(null);
    method.allow(next.can_explain, next.why_not);
    loadPictures(next);
    paintAll();
    ask();
    if (hadFocus) tiles.focus(0);
  }

  function showNothing() {
    item = null;
    delete query.dataset.id;
    inquiry.drop();
    closeViews();
    tiles.show([], false);
  }
  showNothing();

  return {
    element,
    repaint: paintAll,
    take,
    leave: () => pair.release() || leave(),
    /** Show a query, or none. One that is shown already keeps its evidence and what is open. @param {Item | null} next @param {import("./trail.js").History} history */
    show(next, history = NO_HISTORY) {
      empty.hidden = Boolean(next);
      trail.element.hidden = !next && !history.trail.length;
      trail.show(history);
      if (!next) showNothing();
      else if (sameQuestion(item, next)) {
        item = next;
        showQuery();
        tiles.renew(next.neighbors);
      } else showItem(next);
    },
    /** Something was measured that says which method to trust. */
    measured() { if (item) ask(true); },
    /** @param {number[][]} colors one a neighbor: the dots follow the map's colors */
    recolor: tiles.recolor,
    destroy() {
      resized.disconnect();
      inquiry.destroy();
      pair.destroy();
      contrast.destroy();
    },
  };
}
