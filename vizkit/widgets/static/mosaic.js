// Thumbnails in place of points, where the map is near enough that they fit. Which points get one is pure, and stays while the map is panned.

import { cssColor, make, sizeCanvas } from "./elements.js";

const SMALLEST = 32, LARGEST_TILE = 64; // CSS pixels of a picture: it grows from the one to the other, or to the thumbnail's own size
const FRAME = 2; // CSS pixels around it, in the point's color
const GAP = 2; // CSS pixels between tiles
const SPACING = 22; // CSS pixels between points, typically, from which thumbnails are shown
const MOST_TILES = 300;
const CONSIDERED = 4000; // points looked at for one draw
const ASKED_AT_ONCE = 24; // thumbnails asked for in one draw: the map must stay smooth meanwhile
const FAINT = 0.4; // opacity of a thumbnail whose point is faint
const SLACK = 0.5; // CSS pixels that tiles which were there may come closer, so that rounding takes none away

/** @param {import("./geometry.js").Grid} grid @returns {number} map units between neighboring points, typically: from the area that points take up */
export function typicalSpacing(grid) {
  const { starts, items, cell } = grid;
  let taken = 0;
  for (let c = 0; c + 1 < starts.length; c++) if (starts[c + 1] > starts[c]) taken++;
  return items.length ? cell * Math.sqrt(taken / items.length) : 0;
}

/** @param {number} spacing CSS pixels between neighboring points, typically @returns {number} CSS pixels of a thumbnail; 0: points alone */
export function tileSize(spacing) {
  return spacing < SPACING ? 0 : Math.min(SMALLEST * Math.sqrt(spacing / SPACING), LARGEST_TILE);
}

/**
 * Choose the points that become tiles: each tile lies centered on its point, and no two overlap. After `first` come those that
 * were tiles before, so that a tile stays while the map is panned; then the others in a scattered order, and faint ones last.
 * @param {{rows: Uint32Array, at: (row: number) => [number, number], size: number, width: number, height: number,
 *   before?: number[], first?: ArrayLike<number>, faint?: (row: number) => boolean, most?: number}} scene `rows`: candidates, ascending; `size`: CSS pixels
 *   of a tile with its frame and the gap around it
 * @returns {number[]} rows
 */
export function placeTiles({ rows, at, size, width, height, before = [], first = [], faint = () => false, most = MOST_TILES }) {
  const least = size - SLACK, columns = Math.ceil((width + 2 * size) / least) + 1, lines = Math.ceil((height + 2 * size) / least) + 1;
  const taken = new Int32Array(columns * lines).fill(-1), xs = [], ys = [], chosen = [];
  const place = (row, distance) => {
    const [x, y] = at(row);
    if (!(x > -size / 2 && x < width + size / 2 && y > -size / 2 && y < height + size / 2)) return;
    const column = Math.floor((x + size) / least), line = Math.floor((y + size) / least);
    for (let l = Math.max(line - 2, 0); l <= Math.min(line + 2, lines - 1); l++) {
      for (let c = Math.max(column - 2, 0); c <= Math.min(column + 2, columns - 1); c++) {
        const other = taken[l * columns + c];
        if (other >= 0 && Math.abs(xs[other] - x) < distance && Math.abs(ys[other] - y) < distance) return;
      }
    }
    taken[line * columns + column] = chosen.length;
    xs.push(x);
    ys.push(y);
    chosen.push(row);
  };
  const head = Array.from(first).filter((row) => holds(rows, row)), ahead = new Set(head), old = before.filter((row) => holds(rows, row) && !ahead.has(row));
  const known = new Set([...head, ...old]), fresh = scattered(rows, CONSIDERED).filter((row) => !known.has(row));
  for (const row of head) place(row, size);
  for (const weak of [false, true]) {
    for (const row of old) if (chosen.length < most && faint(row) === weak) place(row, least);
    for (const row of fresh) if (chosen.length < most && faint(row) === weak) place(row, size);
  }
  return chosen;
}

/** @param {Uint32Array} rows ascending @returns {boolean} */
function holds(rows, row) {
  let low = 0, high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle] < row) low = middle + 1;
    else high = middle;
  }
  return rows[low] === row;
}

/** @returns {number[]} some of the rows, from everywhere in the table, never one twice: in its order the first class would take all places */
function scattered(rows, most) {
  const n = rows.length, out = [];
  let step = Math.max(Math.round(n * 0.618), 1);
  const common = (a, b) => (b ? common(b, a % b) : a);
  while (common(step, n) > 1) step++;
  for (let i = 0, at = 0; i < Math.min(n, most); i++, at = (at + step) % n) out.push(rows[at]);
  return out;
}

const isFaint = (color) => color.length > 3 && color[3] < 128;

/**
 * @param {HTMLElement} container of the points and the overlay; the tiles lie between the two
 * @returns {{draw: (scene: {view: import("./geometry.js").View, at: (row: number) => [number, number], rows: Uint32Array, size: number,
 *   thumbnail: (row: number) => Promise<ImageBitmap | null>, peek: (row: number) => ImageBitmap | undefined,
 *   colorOf: (row: number) => ArrayLike<number>, redraw: () => void, first?: ArrayLike<number>}) => void, clear: () => void, isShown: () => boolean, sideOf: (row: number) => number}}
 *   `rows`: visible ones in or near the view, ascending; `size`: as `tileSize` says; `colorOf`: sRGB 0..255, with the opacity 0..255
 *   where a point is faint; `sideOf`: CSS pixels of the tile that a row has on the screen, 0 where it is a point
 */
export function createMosaic(container) {
  const canvas = make("canvas", { class: "vk-mosaic", "aria-hidden": "true", hidden: true });
  container.insertBefore(canvas, container.querySelector(".vk-overlay"));
  let tiles = [], pictures = new Map(), asked = new Set(), sides = new Map(), epoch = 0;

  function clear() {
    if (!tiles.length && canvas.hidden) return;
    tiles = [];
    pictures = new Map();
    asked = new Set();
    sides = new Map();
    epoch += 1;
    canvas.hidden = true;
    for (const name of ["tiles", "waiting", "side"]) delete canvas.dataset[name];
  }

  /** A thumbnail that is on the screen is held here: others may push it out of the pictures that are kept. */
  function pictureOf(row, peek, kept) {
    const ready = pictures.get(row) ?? peek(row);
    if (ready) kept.set(row, ready);
    return ready;
  }

  /** Ask for some of the thumbnails that are not here; one that is still being made keeps no other waiting. */
  function ask({ thumbnail, redraw }) {
    const missing = tiles.filter((row) => !pictures.has(row) && !asked.has(row)), started = epoch;
    for (const row of missing.slice(0, ASKED_AT_ONCE)) {
      asked.add(row);
      thumbnail(row).then((bitmap) => {
        // Without a picture the point stays a point, and stays asked for: asking again at once would never end.
        if (started !== epoch || !bitmap) return;
        asked.delete(row);
        pictures.set(row, bitmap);
        redraw();
      });
    }
    if (missing.length > ASKED_AT_ONCE) redraw();
  }

  function drawTile(context, bitmap, [x, y], color, size, paper) {
    const ratio = window.devicePixelRatio || 1, snap = (value) => Math.round(value * ratio) / ratio;
    const longer = Math.min(size, Math.max(bitmap.width, bitmap.height)), factor = longer / Math.max(bitmap.width, bitmap.height);
    const w = snap(bitmap.width * factor), h = snap(bitmap.height * factor), left = snap(x - w / 2), top = snap(y - h / 2);
    const fill = (style, rim) => { context.fillStyle = style; context.fillRect(left - rim, top - rim, w + 2 * rim, h + 2 * rim); };
    const faint = isFaint(color), opacity = faint ? FAINT : 1, tint = cssColor(Array.from(color).slice(0, 3), opacity);
    if (faint) fill(paper(), FRAME); // or the points below would shine through
    fill(tint, FRAME);
    if (faint) fill(paper(), 0);
    context.globalAlpha = opacity;
    context.drawImage(bitmap, left, top, w, h);
    context.globalAlpha = 1;
    return longer + 2 * FRAME;
  }

  return {
    draw(scene) {
      const { view, at, rows, size, colorOf, first } = scene;
      if (!(size > 0) || !rows.length) { clear(); return; }
      tiles = placeTiles({ rows, at, size: size + 2 * FRAME + GAP, width: view.width, height: view.height, before: tiles, first, faint: (row) => isFaint(colorOf(row)) });
      canvas.hidden = false;
      const context = sizeCanvas(canvas, view.width, view.height), kept = new Map();
      let ground = "";
      const paper = () => (ground ||= getComputedStyle(container).getPropertyValue("--vk-paper") || "white");
      sides = new Map();
      for (const row of tiles) {
        const bitmap = pictureOf(row, scene.peek, kept);
        if (bitmap) sides.set(row, drawTile(context, bitmap, at(row), colorOf(row), size, paper));
      }
      pictures = kept;
      ask(scene);
      Object.assign(canvas.dataset, { tiles: sides.size, waiting: tiles.length - sides.size, side: Math.round(Math.max(...sides.values(), 0)) });
    },
    clear,
    isShown: () => !canvas.hidden,
    sideOf: (row) => sides.get(row) ?? 0,
  };
}
