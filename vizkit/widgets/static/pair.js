// Query and one neighbor, large: point at a patch, see its matches on the other image and the share of the cosine they carry.

import { clipText, make } from "./elements.js";
import { formatNumber } from "./colors.js";
import { cellAt, decodeSeen, drawMarks, drawPicture } from "./evidence.js";
import { carriedBy, carriedWith, entryOf, gridOf, largestOf, matchingWords, mutualOf, otherSide, patchWords, shareText, speaksAgainst, strongestWith } from "./matching.js";
import { createBadge } from "./badge.js";
import { createMessage, createScale } from "./method.js";
import { SILENT, createInquiry } from "./inquiry.js";
import { similarityWords } from "./tiles.js";

/** @typedef {import("./matching.js").Matching} Matching */
/** @typedef {{graph: number, query: {id: string}, neighbor: import("./tiles.js").Neighbor, rank: number, count: number, images: {a: any, b: any}, maps: {a: any, b: any} | null}} PairItem
 *   images: what is shown until the network's own view comes; maps: of the method that the panel shows, or null */

const NUMBERED = 5; // matches that are numbered on the pictures
const OPACITY = 0.75;
const NAMES = { a: "Query", b: "Neighbor" };

/** @param {{request: (name: string, payload: any) => Promise<any>, close: () => void, step: (by: number) => void}} told */
export function createPair(told) {
  const title = make("div", { class: "vk-view-title" }), similarity = make("div", { class: "vk-quiet" });
  const button = (text, label, act) => make("button", { type: "button", class: "vk-button", text, title: label, "aria-label": label, on: { click: act } });
  const previous = button("‹", "The neighbor before", () => told.step(-1)), following = button("›", "The next neighbor", () => told.step(1));
  const head = make("div", { class: "vk-row vk-view-head" }, button("← Neighbors", "Back to all neighbors (Escape)", told.close), title, make("div", { class: "vk-group" }, previous, following));
  const sides = { a: makeSide("a"), b: makeSide("b") };
  const scale = createScale(), message = createMessage(), badge = createBadge("pair-trust");
  const source = make("div", { class: "vk-source", hidden: true }, badge.element, make("span", { class: "vk-made", text: "Contribution, which is exact here" }));
  const summary = make("p", { class: "vk-pair-summary" }), said = make("p", { class: "vk-pair-said", "aria-live": "polite" });
  const list = make("div", { class: "vk-chips", role: "group", "aria-label": "Best matches, the one that carries most first" });
  const text = make("div", { class: "vk-pair-text", "data-vizkit": "pair-text" }, summary, list, said);
  const element = make("section", { class: "vk-pair", "aria-label": "Query and neighbor, patch by patch", hidden: true }, head, similarity, make("div", { class: "vk-pair-images" }, sides.a.element, sides.b.element), scale.element, source, text, message.element);
  const inquiry = createInquiry((item) => told.request("matches", { graph: item.graph, query: item.query.id, neighbor: item.neighbor.id }), hear);

  /** @type {PairItem | null} */ let item = null;
  /** @type {Matching | null} */ let matching = null;
  let seen = { a: null, b: null }, sums = null, pointed = null, held = null, limits = null;

  function makeSide(side) {
    const canvas = make("canvas", {
      class: "vk-pair-image", tabindex: 0, role: "application", "data-vizkit": `pair-${side}`, "aria-roledescription": "picture in patches",
      on: {
        pointermove: (event) => point(side, patchAt(side, event)), pointerleave: (event) => { if (event.pointerType === "mouse") point(side, -1); },
        pointerdown: (event) => press(side, patchAt(side, event), event.pointerType === "mouse"),
        keydown: (event) => onKey(side, event), blur: () => point(side, -1),
      },
    });
    const name = make("div", { class: "vk-pair-name", dir: "auto" });
    return { canvas, name, element: make("figure", { class: `vk-pair-${side}` }, canvas, make("figcaption", {}, make("span", { class: "vk-over", text: NAMES[side] }), name)) };
  }

  // --- pointing ------------------------------------------------------------------------------------------------------

  function patchAt(side, event) {
    if (!matching) return -1;
    const { canvas } = sides[side], box = canvas.getBoundingClientRect(), grid = gridOf(matching, side);
    const at = cellAt(canvas.place, { ...grid, map: sums[side] }, event.clientX - box.left, event.clientY - box.top);
    return at ? at.row * grid.cols + at.col : -1;
  }

  function point(side, cell) {
    if (!matching) return;
    const next = cell < 0 ? null : { side, cell };
    if (next?.side === pointed?.side && next?.cell === pointed?.cell) return;
    if (!next && pointed?.side !== side) return;
    pointed = next;
    paint();
    tell();
  }

  /** A finger cannot hover: its first tap on the other image reads, as pointing does. */
  function press(side, cell, isMouse) {
    const reads = !isMouse && held && held.side !== side && (pointed?.side !== side || pointed.cell !== cell);
    point(side, cell);
    if (!reads) hold(side, cell);
  }

  /** Keep a patch, so that the other image can be read; the same again lets it go. */
  function hold(side, cell) {
    if (!matching || cell < 0) return;
    held = held?.side === side && held.cell === cell ? null : { side, cell };
    paint();
    tell();
  }

  function onKey(side, event) {
    if (!matching || event.ctrlKey || event.metaKey || event.altKey) return;
    const { rows, cols } = gridOf(matching, side), at = pointed?.side === side ? pointed.cell : startOn(side);
    const row = Math.floor(at / cols), col = at % cols;
    const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (moves) {
      const first = pointed?.side !== side;
      const r = first ? row : Math.min(Math.max(row + moves[0], 0), rows - 1), c = first ? col : Math.min(Math.max(col + moves[1], 0), cols - 1);
      point(side, r * cols + c);
    } else if (event.key === "Enter" || event.key === " ") hold(side, at);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Where the keyboard begins: at the patch held there, its match, or the strongest match. */
  function startOn(side) {
    if (held?.side === side) return held.cell;
    if (held) return mutualOf(matching, held) >= 0 ? mutualOf(matching, held) : strongestWith(matching, held);
    return matching.best[0]?.[side === "a" ? 0 : 1] ?? 0;
  }

  // --- painting ------------------------------------------------------------------------------------------------------

  /** The patch whose matches are shown: the held one, else the one that is pointed at. */
  const asked = () => held ?? pointed;

  /** Each patch has a scale of its own, or those that carry little would show nothing; how much it is, is told in words. */
  const scaleFor = (patch) => ({ limit: largestOf(carriedWith(matching, patch)), signed: limits.signed });

  function mapOn(side) {
    if (!matching) return item?.maps?.[side] ?? null;
    const patch = asked(), grid = gridOf(matching, side);
    if (!patch) return { ...grid, map: sums[side], ...limits.sums };
    return patch.side === side ? null : { ...grid, map: carriedWith(matching, patch), ...scaleFor(patch) };
  }

  function marksOn(side) {
    if (!matching) return [];
    const patch = asked(), at = side === "a" ? 0 : 1;
    if (!patch) return matching.best.slice(0, NUMBERED).map((match, i) => ({ cell: match[at], kind: "ring", label: String(i + 1) }));
    if (patch.side === side) return [{ cell: patch.cell, kind: held ? "held" : "patch" }];
    const mutual = mutualOf(matching, patch), read = held && pointed?.side === side ? [{ cell: pointed.cell, kind: "patch" }] : [];
    return [mutual >= 0 ? { cell: mutual, kind: "ring" } : { cell: strongestWith(matching, patch), kind: "strongest" }, ...read];
  }

  function paint() {
    if (!item) return;
    for (const side of ["a", "b"]) {
      const { canvas } = sides[side], size = canvas.clientWidth || 180;
      canvas.place = drawPicture(canvas, size, seen[side] ?? item.images[side], mapOn(side), OPACITY);
      if (canvas.place && matching) drawMarks(canvas, canvas.place, gridOf(matching, side), marksOn(side));
    }
    paintScale();
  }

  function paintScale() {
    const patch = asked();
    if (!matching) { scale.show(item.maps ? { ...item.maps.a, text: item.maps.a.unit } : null, OPACITY, null); return; }
    const read = held && pointed && pointed.side !== held.side ? entryOf(matching, held, pointed.cell) : null;
    const most = patch && entryOf(matching, patch, strongestWith(matching, patch));
    if (patch) scale.show({ ...scaleFor(patch), text: "points of cosine with each patch of the other image" }, OPACITY, read ?? most);
    else scale.show({ ...limits.sums, text: "points of cosine that a patch carries" }, OPACITY, null);
  }

  function tell() {
    const patch = asked();
    if (!patch) { said.textContent = "Point at a patch to see what it matches; click to hold it."; return; }
    const read = held && pointed && pointed.side !== held.side ? pointed.cell : -1;
    said.textContent = patchWords(matching, patch, NAMES, read);
  }

  // --- answers -------------------------------------------------------------------------------------------------------

  function hear(answer) {
    element.dataset.matches = answer.status;
    if (answer.status === "loading") message.say("Matching patches…", "loading");
    if (answer.status === "slow") message.say(SILENT, "error");
    if (answer.status === "error") message.say(`No patch matches: ${answer.message}`, answer.quiet ? "quiet" : "error");
    if (answer.status === "ready") take(answer.reply);
  }

  async function take(reply) {
    const shownFor = item, [a, b] = await Promise.all([decodeSeen(reply.seen_a), decodeSeen(reply.seen_b)]);
    if (item !== shownFor) return;
    matching = reply;
    seen = { a, b };
    sums = { a: carriedBy(matching, "a"), b: carriedBy(matching, "b") };
    limits = {
      sums: { limit: largestOf(sums.a, sums.b), signed: speaksAgainst(sums.a, sums.b) },
      signed: speaksAgainst(matching.matrix),
    };
    message.say("");
    summary.textContent = matchingWords(matching);
    source.hidden = false;
    badge.show(matching.trust, "only contribution splits a cosine into pairs of patches", "Contribution");
    list.replaceChildren(...matching.best.slice(0, NUMBERED).map(chip));
    for (const side of ["a", "b"]) {
      const { rows, cols } = gridOf(matching, side);
      sides[side].canvas.setAttribute("aria-label", `${NAMES[side]}, ${rows} by ${cols} patches. Arrows move from patch to patch, Enter holds one.`);
    }
    paint();
    tell();
  }

  function chip([a, b, carried], i) {
    const patch = { side: "a", cell: a }, show = () => point("a", a), leave = () => point("a", -1);
    const words = patchWords(matching, patch, NAMES, b);
    return make("button", {
      type: "button", class: "vk-chip vk-match-chip", title: words, "aria-label": `Match ${i + 1}. ${words}`,
      on: { pointerenter: show, pointerleave: leave, focus: show, blur: leave, click: () => hold("a", a) },
    }, make("span", { class: "vk-ring-number", text: String(i + 1) }), make("span", { text: shareText(carried, matching.similarity) }));
  }

  function forget() {
    matching = sums = pointed = held = limits = null;
    seen = { a: null, b: null };
    summary.textContent = said.textContent = "";
    source.hidden = true;
    badge.close();
    list.replaceChildren();
  }

  return {
    element,
    paint,
    /** @param {PairItem | null} next null: closed */
    show(next) {
      item = next;
      element.hidden = !next;
      forget();
      if (!next) { inquiry.drop(); return; }
      const { neighbor, query, rank, count } = next;
      title.textContent = `Neighbor ${rank} of ${count}`;
      previous.disabled = rank <= 1;
      following.disabled = rank >= count;
      if (document.activeElement?.disabled && element.contains(document.activeElement)) sides.a.canvas.focus({ preventScroll: true });
      const words = similarityWords(neighbor);
      similarity.textContent = words[0].toUpperCase() + words.slice(1);
      for (const [side, id] of [["a", query.id], ["b", neighbor.id]]) {
        sides[side].name.textContent = sides[side].name.title = clipText(id, 120);
        sides[side].canvas.setAttribute("aria-label", `${NAMES[side]} ${clipText(id, 120)}`);
      }
      paint();
      inquiry.ask(next);
    },
    /** Pictures or maps came meanwhile. @param {Partial<PairItem>} more */
    renew(more) { if (item) { Object.assign(item, more); if (!matching) paint(); } },
    /** @returns {boolean} whether a patch was held, which is let go */
    release() {
      if (!held) return false;
      held = null;
      paint();
      tell();
      return true;
    },
    focus() { sides.a.canvas.focus({ preventScroll: true }); },
    destroy() { inquiry.destroy(); },
  };
}
