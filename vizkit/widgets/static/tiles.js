// The neighbors of the query, best first: a picture with its evidence, the cosine, and where that stands among random pairs.

import { clipText, cssColor, make } from "./elements.js";
import { cellAt, drawPicture } from "./evidence.js";

/**
 * @typedef {{row: number, id: string, label: string, similarity: number, percentile: number | null, only_here?: boolean, color: number[],
 *   thumbnail: Promise<ImageBitmap | null>}} Neighbor `percentile` in percent: how many random pairs are less alike; null: not known
 */

const TILE_SIZE = 84; // CSS pixels, where nothing is laid out yet

/** @returns {string} a cosine with the true minus sign */
const cosineText = (value) => value.toFixed(3).replace("-", "−");

/** @param {number | null | undefined} percentile in percent @returns {string} empty where it is not known; never rounded up to all */
export function percentileText(percentile) {
  if (percentile === null || percentile === undefined || !Number.isFinite(percentile)) return "";
  if (percentile >= 99.95) return ">99.9%";
  return `${(Math.floor(percentile * 10 + 1e-9) / 10).toFixed(1)}%`;
}

/** @returns {string} a cosine and what it is to be compared with, in words */
export function similarityWords({ similarity, percentile }) {
  const among = percentileText(percentile);
  return `cosine ${cosineText(similarity)}${among ? `, above ${among.replace(">", "more than ")} of random pairs` : ""}`;
}

/**
 * @param {{pick: (index: number) => void, match: (index: number) => void, point: (index: number) => void, read: (index: number, cell: any) => void}} told
 *   `point(-1)`: none is pointed at any more; `read`: the cell of the map under the pointer
 */
export function createTiles(told) {
  const list = make("ol", { class: "vk-neighbors", "aria-label": "Nearest neighbors, best first" });
  const heads = make("div", { class: "vk-heads vk-quiet" }, make("span", { text: "Neighbors" }), make("span", { class: "vk-heads-numbers", text: "cosine, share of random pairs below" }));
  const element = make("section", { class: "vk-nearest" }, heads, list);
  let tiles = [], painted = () => null, opacity = 0.7;

  function makeTile(neighbor, index, explains) {
    const picture = make("canvas", { class: "vk-tile-image" });
    const dot = make("span", { class: "vk-dot", style: `background:${cssColor(neighbor.color)}` });
    const label = make("span", { class: "vk-tile-label", text: clipText(neighbor.label), dir: "auto" });
    const name = clipText(neighbor.id, 120), words = similarityWords(neighbor), only = neighbor.only_here ? "; a neighbor here only, not in the other space" : "";
    const button = make("button", {
      type: "button", class: "vk-tile", "data-vizkit": "neighbor", "data-id": neighbor.id, tabindex: index ? -1 : 0, title: `${name}\n${words}${only}`,
      "aria-label": `Neighbor ${index + 1}, ${name}, ${clipText(neighbor.label, 60)}, ${words}${only}. Enter makes it the query${explains ? ", M matches its patches" : ""}.`,
      on: {
        click: () => told.pick(index),
        pointerenter: () => { told.point(index); repaint(index); },
        pointerleave: () => { told.read(index, null); told.point(-1); repaint(index); },
        pointermove: (event) => readAt(event, index),
        focus: () => { told.point(index); focusable(index); repaint(index); },
        blur: () => { told.point(-1); repaint(index); },
      },
    }, make("span", { class: "vk-tile-frame" }, picture, neighbor.only_here ? make("span", { class: "vk-only", text: "only here" }) : null),
    make("span", { class: "vk-tile-line" }, make("span", { text: cosineText(neighbor.similarity) }), make("span", { class: "vk-percentile", text: percentileText(neighbor.percentile) })),
    make("span", { class: "vk-tile-line" }, make("span", { class: "vk-rank", text: String(index + 1) }), dot, label));
    const match = explains ? make("button", {
      type: "button", class: "vk-match", "data-vizkit": "compare", tabindex: index ? -1 : 0, text: "Match", title: "Which patch matches which (M)",
      "aria-label": `Match the patches of the query and of neighbor ${index + 1}, ${name}`,
      on: { click: () => told.match(index), focus: () => { told.point(index); focusable(index); } },
    }) : null;
    list.append(make("li", {}, button, match));
    const tile = { id: neighbor.id, element: button, match, picture, dot, label, image: null, seen: null };
    neighbor.thumbnail.then((bitmap) => { tile.image = bitmap; paint(tile, index); }, () => {});
    return tile;
  }

  function paint(tile, index) {
    tile.picture.place = drawPicture(tile.picture, tile.picture.clientWidth || TILE_SIZE, tile.seen ?? tile.image, tile.seen ? painted(index) : null, opacity);
  }

  /** It is looked at, or no longer. */
  function repaint(index) {
    if (tiles[index]) paint(tiles[index], index);
  }

  function readAt(event, index) {
    const tile = tiles[index], box = tile.picture.getBoundingClientRect();
    told.read(index, tile.seen ? cellAt(tile.picture.place, painted(index), event.clientX - box.left, event.clientY - box.top) : null);
  }

  /** One neighbor at a time can be reached by Tab, with its button; arrows move between them. */
  function focusable(index) {
    tiles.forEach((tile, i) => {
      tile.element.tabIndex = i === index ? 0 : -1;
      if (tile.match) tile.match.tabIndex = i === index ? 0 : -1;
    });
  }

  return {
    element,
    /** @param {Neighbor[]} neighbors @param {boolean} explains whether patches can be matched */
    show(neighbors, explains) {
      list.replaceChildren();
      painted = () => null;
      tiles = neighbors.map((neighbor, index) => makeTile(neighbor, index, explains));
      heads.hidden = !tiles.length;
      if (!tiles.length) list.append(make("li", { class: "vk-none vk-quiet", text: "This image has no neighbors here." }));
      tiles.forEach(paint);
    },
    /** The same neighbors, with other labels and colors. */
    renew(neighbors) {
      neighbors.forEach((neighbor, i) => {
        tiles[i].label.textContent = clipText(neighbor.label);
        tiles[i].dot.style.background = cssColor(neighbor.color);
      });
    },
    recolor(colors) {
      tiles.forEach((tile, i) => { if (colors[i]) tile.dot.style.background = cssColor(colors[i]); });
    },
    /** @param {(index: number) => any} evidenceOf the map of a tile, or null @param {number} opacityNow */
    paint(evidenceOf, opacityNow) {
      painted = evidenceOf;
      opacity = opacityNow;
      tiles.forEach(paint);
    },
    /** Frame the tile that the query's map is for. @param {number} index -1: none */
    frame(index) { tiles.forEach((tile, i) => tile.element.toggleAttribute("data-paired", i === index)); },
    /** Say of a tile that it is taken as "this one". @param {number} index -1: none */
    choose(index) { tiles.forEach((tile, i) => tile.element.toggleAttribute("data-chosen", i === index)); },
    setSeen(index, bitmap) { tiles[index].seen = bitmap; },
    imageOf: (index) => tiles[index]?.seen ?? tiles[index]?.image ?? null,
    focus(index) { tiles[index]?.element.focus({ preventScroll: true }); },
    hasFocus: () => list.contains(document.activeElement),
    focused: () => tiles.findIndex((tile) => tile.element === document.activeElement || tile.match === document.activeElement),
    /** Move the focus by a key. @returns {boolean} whether the key meant that */
    walk(key) {
      const at = this.focused();
      const top = (tile) => tile.element.getBoundingClientRect().top, perRow = tiles.filter((tile) => top(tile) === top(tiles[0])).length || 1;
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: perRow, ArrowUp: -perRow }[key];
      if (at < 0 || !step) return false;
      tiles[Math.min(Math.max(at + step, 0), tiles.length - 1)].element.focus();
      return true;
    },
  };
}
