// The map: points, what is drawn over them, and what the pointer and the keyboard do with both.

import { boundsOf, buildGrid, ease, fewRowsInBox, fitView, layoutFrame, mixViews, mixXY, nearestBetween, nearestRow, panBy, rowsInBox, rowsInPolygon, stepInDirection, toMap, toScreen, zoomAbout } from "./geometry.js";
import { make } from "./elements.js";
import { createMosaic, tileSize, typicalSpacing } from "./mosaic.js";
import { createPoints, pointDiameter } from "./points.js";
import { drawOverlay } from "./overlay.js";
import { watchGestures } from "./gestures.js";

const HOVER_REACH = 20; // CSS pixels from the pointer to the nearest point that still counts as hovered
const MOVE_TIME = 400; // milliseconds a new layout takes to replace the old one
const FRAME_TIMES = [80, 600]; // milliseconds, least and most, that points glide to a frame of a layout that is being made
const DEEPEST_ZOOM = 400; // of the scale that shows all, but no deeper than typical neighbors lie apart by
const FARTHEST_APART = 400; // CSS pixels
const TILES_FROM = 4000; // rows in the view, at most, among which thumbnails are placed
const TILES_STAY = 1.2; // times as many rows while thumbnails are there, so that a small pan does not take them away and bring them back
const ROOMY = 56; // CSS pixels between points, typically, from which thumbnails need no zoom: less, and they would hide half of the map
const ZOOMED = 1.3; // of the scale that shows all, from which thumbnails are wanted
const DOT = 3; // CSS pixels from a point's middle that mean it, whatever lies over it
const REST = 150; // milliseconds that points stand before thumbnails are placed
const TILE_REACH = 36; // CSS pixels from the middle of a thumbnail to beyond its corner

/**
 * @param {{hover: (row: number, byKey: boolean) => void, pick: (row: number) => void, select: (rows: Uint32Array, add: boolean) => void,
 *   clear: () => void, notify: (message: string) => void, neighborsOf: (row: number) => ArrayLike<number>, moved: () => void,
 *   thumbnail: (row: number) => Promise<ImageBitmap | null>, peek: (row: number) => ImageBitmap | undefined}} told
 *   `hover(-1)`: no point is hovered any more; `moved`: the view changed
 */
export function createMap(told) {
  const surface = make("div", { class: "vk-surface", "data-vizkit": "map", tabindex: 0, role: "application", "aria-roledescription": "map of images" });
  const overlay = make("canvas", { class: "vk-overlay", "aria-hidden": "true" });
  const lost = make("p", { class: "vk-nothing", text: "No point here: Show all (0)", hidden: true });
  surface.append(overlay, lost);
  let xy = new Float32Array(0), before = xy, grid = null, visible = null;
  let view = fitView(boundsOf(xy), 1, 1), fitScale = view.scale, fitted = true;
  let marks = { query: -1, neighbors: [], near: -1, linked: -1 }, hover = -1, shape = null;
  let raw = xy, guests = xy; // as they were given: the explorer's own images, and those beside them
  let pointer = null; // where a pointer rests that means what lies under it; null while it drags, is away, or keys walk
  let colors = { ink: "#222", paper: "#fff", accent: "#c2185b" };
  // Points glide from `before` to `xy` while the view turns: two motions, so that a pan or a zoom takes over the view alone.
  let glide = null, turn = null, lastFrame = -Infinity, frame = 0, pointsStale = true;

  const points = createPoints(surface, told.notify, () => redraw()), mosaic = createMosaic(surface);
  let rgba = new Uint8Array(0), spacing = null, rest = 0;
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

  function normalized() {
    const { x, y, factor } = layoutFrame(raw), out = new Float32Array(raw.length + guests.length);
    for (let i = 0; i < out.length; i++) out[i] = ((i < raw.length ? raw[i] : guests[i - raw.length]) - (i % 2 ? y : x)) * factor;
    return out;
  }

  /** One draw a frame, whatever happened; hovering alone leaves the points as they are. */
  function redraw(withPoints = true) {
    pointsStale ||= withPoints;
    if (!frame) frame = requestAnimationFrame(draw);
  }

  /** @param {{start: number, time: number, even: boolean} | null} motion @returns {number} how far it is, in [0, 1] */
  function share(motion) {
    if (!motion) return 1;
    const t = Math.min((performance.now() - motion.start) / motion.time, 1);
    return motion.even ? t : ease(t);
  }

  /** The view as it is now, also between two draws: positions and view must be of the same moment. */
  function current() {
    if (turn) view = mixViews(turn.from, turn.to, share(turn));
    return view;
  }

  function position(row) {
    const t = share(glide);
    if (t === 1) return toScreen(current(), xy[2 * row], xy[2 * row + 1]);
    return toScreen(current(), before[2 * row] * (1 - t) + xy[2 * row] * t, before[2 * row + 1] * (1 - t) + xy[2 * row + 1] * t);
  }

  /** @returns {Float32Array} where the points are on the screen now: between two layouts while they glide */
  function shownXY() {
    const t = share(glide);
    return t === 1 ? xy : mixXY(before, xy, t);
  }

  /** The index of what is on the screen, kept while the points stand. */
  function shownGrid() {
    if (glide) return buildGrid(shownXY());
    grid ??= buildGrid(xy);
    return grid;
  }

  function draw() {
    frame = 0;
    if (!(view.width > 1 && view.height > 1)) return;
    const t = share(glide), moving = Boolean(glide || turn);
    current();
    if (share(turn) === 1) turn = null;
    if (glide && t === 1) { glide = null; before = xy; }
    pointsStale ||= moving;
    const diameter = pointDiameter(xy.length / 2, view.scale / fitScale);
    if (pointsStale) {
      points.draw(view, t, diameter);
      drawTiles();
      lost.hidden = Boolean(glide) || !xy.length || !grid || fewRowsInBox(grid, boxAround(view.width / 2, view.height / 2, view.width / 2, view.height / 2), 0) === null;
      // A pointer at rest tells nothing, though points move under it and thumbnails come.
      if (pointer) setHover(rowAt(...pointer));
    }
    pointsStale = false;
    const bright = hover >= 0 ? hover : marks.linked, hoverNeighbors = bright >= 0 && bright !== marks.query ? told.neighborsOf(bright) : [];
    drawOverlay(overlay, { view, at: position, diameter, ...colors, ...marks, hover: bright, hoverNeighbors, guestsFrom: raw.length / 2, rows: xy.length / 2, sideOf: mosaic.sideOf, shape });
    surface.dataset.drawn = String(Number(surface.dataset.drawn ?? 0) + 1);
    if (moving) told.moved();
    if (glide || turn) redraw();
  }

  /** Thumbnails in place of points, once they fit. */
  function drawTiles() {
    if (glide || !grid) {
      mosaic.clear();
      // Neither the first picture nor a frame of a map that unfolds waits for an index.
      clearTimeout(rest);
      rest = setTimeout(() => { if (!glide) { shownGrid(); redraw(); } }, REST);
      return;
    }
    spacing ??= typicalSpacing(shownGrid());
    const size = sizeOfTiles(), most = TILES_FROM * (mosaic.isShown() ? TILES_STAY : 1);
    const rows = size ? fewRowsInBox(shownGrid(), boxAround(view.width / 2, view.height / 2, view.width / 2 + size, view.height / 2 + size), most, visible) : null;
    if (!rows) { mosaic.clear(); return; }
    // What is hovered is not among the first: a thumbnail that appeared under the pointer would push others away.
    mosaic.draw({ view, at: position, rows, first: [marks.query, ...marks.neighbors].filter((row) => row >= 0), size, thumbnail: told.thumbnail, peek: told.peek, colorOf: (row) => rgba.subarray(4 * row, 4 * row + 4), redraw });
  }

  /** @returns {number} CSS pixels; 0: points alone */
  function sizeOfTiles() {
    const room = (spacing ?? 0) * view.scale;
    return room >= ROOMY || view.scale > ZOOMED * fitScale ? tileSize(room) : 0;
  }

  /** @returns {import("./geometry.js").Bounds} in map units, of a box around a pixel */
  function boxAround(px, py, halfWidth, halfHeight) {
    return boundsOf([...toMap(view, px - halfWidth, py - halfHeight), ...toMap(view, px + halfWidth, py + halfHeight)]);
  }

  /** @returns {number} the row whose thumbnail lies under a pixel, or -1 */
  function tileAt(px, py) {
    for (const row of fewRowsInBox(shownGrid(), boxAround(px, py, TILE_REACH, TILE_REACH), TILES_FROM, visible) ?? []) {
      const half = mosaic.sideOf(row) / 2, [x, y] = half ? position(row) : [];
      if (half && Math.abs(x - px) <= half && Math.abs(y - py) <= half) return row;
    }
    return -1;
  }

  /** @returns {number} how many others lie in the very place of a row, and cannot be told from it */
  function alikeAt(row) {
    const x = xy[2 * row], y = xy[2 * row + 1];
    return glide || !Number.isFinite(x) ? 0 : Math.max(rowsInBox(shownGrid(), { minX: x, minY: y, maxX: x, maxY: y }, visible).length - 1, 0);
  }

  function look(next) {
    turn = null;
    view = next;
    redraw();
    told.moved();
  }

  function zoom(px, py, factor) {
    fitted = false;
    const deepest = Math.max(Math.min(spacing ? FARTHEST_APART / spacing : Infinity, fitScale * DEEPEST_ZOOM), fitScale * 4);
    look(zoomAbout(current(), px, py, factor, fitScale * 0.4, deepest));
  }

  function reset() {
    fitted = true;
    look(fitView(boundsOf(xy), view.width, view.height));
  }

  /** A pointer means the point that it sees. While points glide an index would serve one look only: all are gone through. */
  function rowAt(px, py) {
    const [x, y] = toMap(current(), px, py), reach = HOVER_REACH / view.scale;
    if (glide) return nearestBetween(before, xy, share(glide), x, y, reach, visible);
    // A point that lies under the thumbnail of another can still be met, at its very place.
    const nearest = nearestRow(shownGrid(), x, y, reach, visible), [nx, ny] = nearest < 0 ? [Infinity, Infinity] : position(nearest);
    if (!sizeOfTiles() || Math.hypot(nx - px, ny - py) <= DOT) return nearest;
    const tile = tileAt(px, py);
    return tile >= 0 ? tile : nearest;
  }

  function point(px, py) {
    pointer = [px, py];
    setHover(rowAt(px, py));
  }

  function setHover(row, byKey = false) {
    if (row === hover) return;
    hover = row;
    told.hover(row, byKey);
    redraw(false);
  }

  /** @returns {boolean} whether the key meant something here */
  function key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return false;
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (arrow) {
      pointer = null;
      const at = hover >= 0 ? hover : marks.query;
      // A guest has no place while the map moves: the walk then begins in the middle.
      const next = Number.isFinite(xy[2 * at]) ? stepInDirection(xy, at, ...arrow, visible) : nearestRow(shownGrid(), view.x, view.y, Infinity, visible);
      if (next >= 0) { reveal(next); setHover(next, true); }
    } else if (event.key === "Enter" || event.key === " ") {
      if (hover >= 0) told.pick(hover);
    } else if (event.key === "+" || event.key === "=") zoom(view.width / 2, view.height / 2, 1.5);
    else if (event.key === "-") zoom(view.width / 2, view.height / 2, 1 / 1.5);
    else if (event.key === "0") reset();
    else if (event.key === "Escape") {
      pointer = null;
      setHover(-1);
      told.clear();
    } else return false;
    return true;
  }

  function reveal(row) {
    const [px, py] = position(row), edge = 16;
    if (!Number.isFinite(px) || !(view.width > 1)) return;
    const dx = Math.max(edge - px, 0) - Math.max(px - view.width + edge, 0);
    const dy = Math.max(edge - py, 0) - Math.max(py - view.height + edge, 0);
    if (dx || dy) { fitted = false; look(panBy(current(), dx, dy)); }
  }

  function leave() {
    pointer = null;
    setHover(-1);
  }

  const gestures = watchGestures(surface, {
    hover: point,
    leave,
    click: (x, y) => {
      point(x, y);
      if (hover >= 0) told.pick(hover);
    },
    pan: (dx, dy) => { pointer = null; fitted = false; look(panBy(current(), dx, dy)); },
    zoom,
    reset,
    shape: (kind, path) => { pointer = null; shape = { kind, path }; redraw(false); },
    selected: (kind, path, add) => {
      shape = null;
      const inMap = [];
      for (let i = 0; i < path.length; i += 2) inMap.push(...toMap(current(), path[i], path[i + 1]));
      const rows = kind === "box" ? rowsInBox(shownGrid(), boundsOf(inMap), visible) : rowsInPolygon(shownGrid(), inMap, visible);
      told.select(rows, add);
      redraw(false);
    },
    cancel: () => { shape = null; redraw(false); },
    key,
  });

  const sizes = new ResizeObserver(([entry]) => {
    const { width, height } = entry.contentRect;
    if (!(width > 1 && height > 1)) return;
    const ratio = width / Math.max(view.width, 1);
    const zoomed = view.scale / fitScale;
    const fit = fitView(boundsOf(xy), width, height);
    fitScale = fit.scale;
    turn = null;
    view = fitted || !Number.isFinite(ratio) ? fit : { ...view, width, height, scale: fitScale * zoomed };
    redraw();
    told.moved();
  });
  sizes.observe(surface);

  return {
    surface,
    redraw,
    reset,
    reveal,
    position,
    alikeAt,
    leave,
    setMode(mode) {
      gestures.setMode(mode);
      surface.dataset.mode = mode;
    },
    /**
     * Show a layout. One of as many points as the last is glided to; the zoom stays, and the query stays where it is.
     * @param {Float32Array} positions (2n) in any unit: centered, and scaled to one size, as every layout
     * @param {{anchor?: number, beside?: Float32Array, flowing?: boolean}} how `anchor`: row to keep in place; `beside`: the guests, as many
     *   as before; `flowing`: whether this is one frame of many: the points then move evenly until the next
     */
    setPositions(positions, { anchor = -1, beside = guests, flowing = false } = {}) {
      const same = positions.length === raw.length && positions.length > 0, now = performance.now();
      const time = flowing ? Math.min(Math.max(1.1 * (now - lastFrame), FRAME_TIMES[0]), FRAME_TIMES[1]) : MOVE_TIME;
      lastFrame = now;
      if (flowing && same && calm.matches) return; // Who asked for less motion sees the beginning and the end.
      current();
      raw = positions;
      guests = beside;
      const old = shownXY(), next = normalized(), fit = fitView(boundsOf(next), view.width, view.height);
      let goal = fit;
      if (same && !fitted) {
        goal = { ...view, scale: (turn?.to ?? view).scale };
        if (anchor >= 0 && Number.isFinite(next[2 * anchor] - old[2 * anchor])) { goal.x += next[2 * anchor] - old[2 * anchor]; goal.y += next[2 * anchor + 1] - old[2 * anchor + 1]; }
      } else fitted = true;
      xy = next;
      grid = spacing = null;
      fitScale = fit.scale;
      const moving = same && !calm.matches && view.width > 1, motion = { start: now, time, even: flowing };
      before = moving ? old : next;
      glide = moving ? motion : null;
      turn = moving && (fitted || anchor >= 0) ? { ...motion, from: view, to: goal } : null;
      if (!moving) view = goal;
      points.setPositions(before, next);
      if (!same) setHover(-1);
      redraw();
      told.moved();
    },
    /** Images beside those of the layout, in its unit; no number: not on this map. The layout and the view stay. @param {Float32Array} positions (2g) */
    setGuests(positions) {
      guests = positions;
      xy = normalized();
      // What moves goes on moving; a guest is where it belongs at once.
      before = glide ? xy.map((v, i) => (i < raw.length ? before[i] : v)) : xy;
      grid = spacing = null;
      points.setPositions(before, xy);
      redraw();
    },
    /** @param {Uint8Array} colorsOfRows 4n: red, green, blue, opacity @param {Uint8Array | null} shown 0 hides a row */
    setColors(colorsOfRows, shown) {
      rgba = colorsOfRows;
      visible = shown;
      points.setColors(rgba);
      if (hover >= 0 && visible && !visible[hover]) setHover(-1);
      redraw();
    },
    /** @param {Partial<{query: number, neighbors: ArrayLike<number>, near: number, linked: number}>} next `linked`: hovered on the map beside this one */
    setMarks(next) {
      marks = { ...marks, ...next };
      redraw(next.query !== undefined && sizeOfTiles() > 0); // the query and its neighbors have thumbnails before others
    },
    setTheme(next) {
      colors = next;
      points.setPaper(next.paperRgb);
      redraw();
    },
    destroy() {
      cancelAnimationFrame(frame);
      clearTimeout(rest);
      sizes.disconnect();
      gestures.destroy();
      mosaic.clear();
      points.destroy();
      surface.remove();
    },
  };
}
