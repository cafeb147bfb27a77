// The panel: the query, its neighbors, and the evidence over both.

import { clipText, cssColor, make } from "./elements.js";
import { formatNumber } from "./colors.js";
import { cellAt, drawEvidenceBar, drawPicture } from "./evidence.js";

const QUERY_SIZE = 152; // CSS pixels
const TILE_SIZE = 84;
const SILENT = "The kernel is not answering: it may be busy, restarted or gone. Map, hover and neighbors keep working.";

/**
 * @param {{methods: {name: string, title: string}[], can_explain: boolean, why_not: string}} options
 * @param {{pick: (row: number) => void, back: () => void, clear: () => void, method: (name: string) => void,
 *   near: (row: number) => void}} told `near(-1)`: no neighbor is pointed at any more
 */
export function createPanel(options, told) {
  const element = make("aside", { class: "vk-panel", "aria-label": "Query and neighbors" });
  const back = make("button", { type: "button", class: "vk-button", text: "← Back", title: "The query before this one (Backspace)", on: { click: told.back } });
  const close = make("button", { type: "button", class: "vk-button", text: "Clear", title: "No query (Escape)", on: { click: told.clear } });
  const queryPicture = make("canvas", { class: "vk-query-image", role: "img" });
  const queryName = make("div", { class: "vk-query-id", dir: "auto" }), queryFacts = make("dl", { class: "vk-facts" });
  const query = make("section", { class: "vk-query", "data-vizkit": "query", "aria-label": "Query" }, queryPicture,
    make("div", { class: "vk-query-text" }, make("div", { class: "vk-over", text: "Query" }), queryName, queryFacts, make("div", { class: "vk-row" }, back, close)));
  const empty = make("p", { class: "vk-empty", text: "Click a point to see its neighbors." });
  const evidence = make("section", { class: "vk-evidence", "data-vizkit": "evidence", "data-explains": options.can_explain, "aria-label": "Evidence" });
  const list = make("ol", { class: "vk-neighbors", "aria-label": "Nearest neighbors, best first" });
  const method = make("select", { class: "vk-select", "aria-label": "Evidence method", on: { change: () => told.method(method.value) } },
    ...options.methods.map((m) => make("option", { value: m.name, text: m.title })));
  const slider = make("input", { type: "range", min: 0, max: 100, value: 70, class: "vk-slider", "aria-label": "Opacity of the evidence", title: "Opacity of the evidence", on: { input: paintAll } });
  const bar = make("canvas", { class: "vk-evidence-bar", role: "img" });
  const unit = make("div", { class: "vk-quiet vk-unit" }), source = make("div", { class: "vk-source" }), message = make("div", { class: "vk-message", role: "status" });
  const controls = make("div", { class: "vk-row" }, method, make("label", { class: "vk-row vk-opacity" }, make("span", { class: "vk-quiet", text: "Opacity" }), slider)), scaleBlock = make("div", { class: "vk-scale" }, bar, unit);
  evidence.append(controls, scaleBlock, source, message);
  element.append(empty, query, evidence, list);

  let item = null, tiles = [], reply = null, paired = 0, images = { query: null }, value = null;
  const opacity = () => Number(slider.value) / 100;

  function evidenceOf(side, index) {
    const pair = reply?.pairs[index];
    if (!pair) return null;
    const map = side === "a" ? pair.map_a : pair.map_b;
    return { map, rows: pair[`rows_${side}`], cols: pair[`cols_${side}`], signed: reply.signed, limit: reply.limit };
  }

  function paintQuery() {
    queryPicture.place = drawPicture(queryPicture, QUERY_SIZE, images.seen ?? images.sharp ?? images.query, images.seen ? evidenceOf("a", paired) : null, opacity());
  }

  function paintTile(tile, index) {
    tile.picture.place = drawPicture(tile.picture, TILE_SIZE, tile.seen ?? tile.image, tile.seen ? evidenceOf("b", index) : null, opacity());
    tile.element.toggleAttribute("data-paired", Boolean(reply) && index === paired);
  }

  function paintBar() {
    if (!reply) return;
    const width = Math.max(scaleBlock.clientWidth, 120), ink = getComputedStyle(element).color;
    drawEvidenceBar(bar, width, { signed: reply.signed, limit: reply.limit, opacity: Math.max(opacity(), 0.05), ink, value: value?.value ?? null });
    const about = tiles[paired] ? ` · query: for neighbor ${paired + 1}` : "";
    unit.textContent = value ? `${formatNumber(value.value)} ${reply.unit} · row ${value.row + 1}, column ${value.col + 1}` : `${reply.unit}${about}`;
    bar.setAttribute("aria-label", `Scale of all pictures: ${formatNumber(reply.signed ? -reply.limit : 0)} to ${formatNumber(reply.limit)} ${reply.unit}`);
  }

  function paintAll() {
    paintQuery();
    tiles.forEach(paintTile);
    paintBar();
  }

  /** Show the query's map for another neighbor. */
  function pair(index) {
    if (index === paired) return;
    paired = index;
    paintQuery();
    tiles.forEach((tile, i) => tile.element.toggleAttribute("data-paired", Boolean(reply) && i === paired));
    paintBar();
  }

  function readCell(canvas, overlay, event) {
    const box = canvas.getBoundingClientRect();
    const cell = overlay ? cellAt(canvas.place, overlay, event.clientX - box.left, event.clientY - box.top) : null;
    if (cell?.row === value?.row && cell?.col === value?.col && cell?.value === value?.value) return;
    value = cell;
    paintBar();
  }
  const noCell = () => { if (value) { value = null; paintBar(); } };
  queryPicture.addEventListener("pointermove", (event) => readCell(queryPicture, images.seen ? evidenceOf("a", paired) : null, event));
  queryPicture.addEventListener("pointerleave", noCell);

  function makeTile(neighbor, index) {
    const picture = make("canvas", { class: "vk-tile-image" });
    const similarity = make("span", { class: "vk-similarity", text: neighbor.similarity.toFixed(3).replace("-", "−") });
    const dot = make("span", { class: "vk-dot", style: `background:${cssColor(neighbor.color)}` });
    const label = make("span", { class: "vk-tile-label", text: clipText(neighbor.label), dir: "auto" });
    const button = make("button", {
      type: "button", class: "vk-tile", "data-vizkit": "neighbor", "data-id": neighbor.id, tabindex: index ? -1 : 0,
      title: clipText(neighbor.id, 120), "aria-label": `Neighbor ${index + 1}, ${clipText(neighbor.id, 120)}, ${clipText(neighbor.label, 60)}, similarity ${neighbor.similarity.toFixed(3)}. Enter makes it the query.`,
      on: {
        click: () => told.pick(neighbor.row),
        pointerenter: () => { pair(index); told.near(neighbor.row); },
        pointerleave: () => { noCell(); told.near(-1); },
        pointermove: (event) => readCell(picture, tiles[index]?.seen ? evidenceOf("b", index) : null, event),
        focus: () => { pair(index); told.near(neighbor.row); focusable(index); },
        blur: () => told.near(-1),
      },
    }, picture, make("span", { class: "vk-tile-line" }, make("span", { class: "vk-rank", text: String(index + 1) }), similarity),
    make("span", { class: "vk-tile-line" }, dot, label));
    list.append(make("li", {}, button));
    const tile = { element: button, picture, dot, image: null, seen: null };
    neighbor.thumbnail.then((bitmap) => { tile.image = bitmap; button.toggleAttribute("data-blank", !bitmap && !tile.seen); paintTile(tile, index); });
    return tile;
  }

  /** One neighbor at a time can be reached by Tab; arrows move between them. */
  function focusable(index) {
    tiles.forEach((tile, i) => { tile.element.tabIndex = i === index ? 0 : -1; });
  }

  function walk(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || /^(INPUT|SELECT)$/.test(event.target.tagName)) {
      if (event.key === "Escape") { told.clear(); event.stopPropagation(); }
      return;
    }
    const at = tiles.findIndex((tile) => tile.element === document.activeElement);
    const perRow = tiles.filter((tile) => tile.element.offsetTop === tiles[0].element.offsetTop).length || 1;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: perRow, ArrowUp: -perRow }[event.key];
    if (at >= 0 && step) tiles[Math.min(Math.max(at + step, 0), tiles.length - 1)].element.focus();
    else if (event.key === "Backspace") told.back();
    else if (event.key === "Escape") told.clear();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
  element.addEventListener("keydown", walk);

  function say(text, kind) {
    message.textContent = text;
    message.hidden = !text;
    message.className = `vk-message vk-message-${kind}`;
    if (kind === "error") message.dataset.vizkit = "error";
    else delete message.dataset.vizkit;
  }

  async function showReply(next) {
    const shownFor = item, decode = (blob) => (blob ? createImageBitmap(blob).catch(() => null) : null);
    const seen = await Promise.all([decode(next.query_seen), ...next.pairs.map((p) => decode(p.seen))]);
    if (item !== shownFor) return;
    reply = next;
    images.seen = seen[0];
    // Pairs are matched by id: the kernel may leave one out.
    const places = new Map(next.pairs.map((p, i) => [p.id, i]));
    reply = { ...next, pairs: tiles.map((tile) => next.pairs[places.get(tile.id)] ?? null) };
    for (const tile of tiles) tile.seen = places.has(tile.id) ? seen[1 + places.get(tile.id)] : null;
    if (options.methods.some((m) => m.name === next.method)) method.value = next.method;
    source.replaceChildren(
      make("span", { class: "vk-badge", text: clipText(next.measured || "not measured", 80), title: "Whether this method was tested on this network" }),
      make("span", { text: clipText([next.title, next.layer && `layer ${next.layer}`].filter(Boolean).join(" · ")) }),
      make("span", { class: "vk-quiet", text: clipText(next.reason ?? "", 400) }));
    scaleBlock.hidden = source.hidden = false;
    say(next.pending?.length ? `Computing evidence for ${next.pending.length} more…` : "", next.pending?.length ? "loading" : "quiet");
    paintAll();
  }

  function forgetReply() {
    reply = null;
    value = null;
    images.seen = null;
    for (const tile of tiles) tile.seen = null;
    scaleBlock.hidden = source.hidden = true;
  }

  return {
    element,
    repaint: paintAll,
    /**
     * @param {{row: number, id: string, facts: [string, string][], thumbnail: Promise<ImageBitmap | null>, sharp: Promise<ImageBitmap | null>,
     *   neighbors: {row: number, id: string, label: string, similarity: number, color: number[], thumbnail: Promise<ImageBitmap | null>}[]} | null} next
     * @param {boolean} canGoBack
     */
    show(next, canGoBack) {
      const hadFocus = list.contains(document.activeElement);
      item = next;
      empty.hidden = Boolean(next);
      query.hidden = list.hidden = !next;
      evidence.hidden = !next;
      back.disabled = !canGoBack;
      list.replaceChildren();
      tiles = [];
      paired = 0;
      images = { query: null };
      forgetReply();
      if (!next) { delete query.dataset.id; return; }
      query.dataset.id = next.id;
      queryName.textContent = clipText(next.id);
      queryPicture.setAttribute("aria-label", `Query picture ${clipText(next.id, 120)}`);
      queryFacts.replaceChildren(...next.facts.flatMap(([key, text]) => [make("dt", { text: clipText(key, 40), dir: "auto" }), make("dd", { text: clipText(text), dir: "auto" })]));
      paintQuery();
      const keep = (name) => (bitmap) => { if (item === next && bitmap) { images[name] = bitmap; paintQuery(); } };
      next.thumbnail.then(keep("query"));
      next.sharp.then(keep("sharp"), () => {});
      tiles = next.neighbors.map((neighbor, index) => Object.assign(makeTile(neighbor, index), { id: neighbor.id }));
      if (!tiles.length) list.append(make("li", { class: "vk-quiet", text: "This image has no neighbors here." }));
      controls.hidden = !options.can_explain;
      if (!options.can_explain) say(options.why_not, "quiet");
      if (hadFocus) tiles[0]?.element.focus({ preventScroll: true });
    },
    /** @param {number[][]} colors one a neighbor: the dots follow the map's colors */
    recolor(colors) {
      tiles.forEach((tile, i) => { tile.dot.style.background = cssColor(colors[i]); });
    },
    /** @param {import("./inquiry.js").Answer} answer */
    setEvidence(answer) {
      element.dataset.evidence = answer.status;
      if (answer.status === "ready") { showReply(answer.reply); return; }
      if (answer.status === "loading") { forgetReply(); say("Computing evidence…", "loading"); }
      if (answer.status === "slow") say(SILENT, "error");
      if (answer.status === "error") { forgetReply(); say(answer.message, "error"); }
      paintAll();
    },
  };
}
