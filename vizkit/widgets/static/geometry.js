// Pure geometry of the map: view transform, exact nearest point, rows inside a shape. Nothing here touches the DOM.

/** @typedef {{minX: number, minY: number, maxX: number, maxY: number}} Bounds */
/** @typedef {{x: number, y: number, scale: number, width: number, height: number}} View
 *  x, y: the map position in the middle of the surface; scale: CSS pixels a map unit; y points up on the map. */
/** @typedef {{xy: Float32Array, columns: number, rows: number, minX: number, minY: number, cell: number,
 *  starts: Uint32Array, items: Uint32Array}} Grid */

/** @param {ArrayLike<number>} xy @returns {Bounds} of the finite positions; a unit box around 0 where there is none */
export function boundsOf(xy) {
  let minX = Infinity, minY = Infinity, maxX = -Infinity, maxY = -Infinity;
  for (let i = 0; i < xy.length; i += 2) {
    const x = xy[i], y = xy[i + 1];
    if (!Number.isFinite(x) || !Number.isFinite(y)) continue;
    if (x < minX) minX = x;
    if (x > maxX) maxX = x;
    if (y < minY) minY = y;
    if (y > maxY) maxY = y;
  }
  return minX > maxX ? { minX: -1, minY: -1, maxX: 1, maxY: 1 } : { minX, minY, maxX, maxY };
}

/**
 * How positions are moved and scaled so that they are centered on 0 and the longer side spans [-1, 1].
 * Both sides share one factor, so distances keep their proportions; a view of one layout then fits the next.
 * @param {Float32Array} xy @returns {{x: number, y: number, factor: number}} a position p becomes (p - (x, y)) * factor
 */
export function layoutFrame(xy) {
  const { minX, minY, maxX, maxY } = boundsOf(xy);
  return { x: (minX + maxX) / 2, y: (minY + maxY) / 2, factor: 2 / (Math.max(maxX - minX, maxY - minY) || 2) };
}

/** @param {Bounds} bounds @param {number} margin in pixels @returns {View} that shows all of the bounds */
export function fitView(bounds, width, height, margin = 24) {
  const spanX = Math.max(bounds.maxX - bounds.minX, 1e-6), spanY = Math.max(bounds.maxY - bounds.minY, 1e-6);
  const roomX = Math.max(width - 2 * margin, 1), roomY = Math.max(height - 2 * margin, 1);
  // Identical points have no extent: they are shown as one point in the middle, not at infinite zoom.
  const scale = Math.min(roomX / spanX, roomY / spanY, Math.min(roomX, roomY) * 50);
  return { x: (bounds.minX + bounds.maxX) / 2, y: (bounds.minY + bounds.maxY) / 2, scale, width, height };
}

/** @param {View} view @returns {[number, number]} CSS pixels from the upper left corner of the surface */
export function toScreen(view, x, y) {
  return [(x - view.x) * view.scale + view.width / 2, (view.y - y) * view.scale + view.height / 2];
}

/** @param {View} view @returns {[number, number]} the map position under a pixel */
export function toMap(view, px, py) {
  return [(px - view.width / 2) / view.scale + view.x, view.y - (py - view.height / 2) / view.scale];
}

/** @param {View} view @returns {View} zoomed by a factor, with the map position under the pixel staying there */
export function zoomAbout(view, px, py, factor, minScale = 0, maxScale = Infinity) {
  const [x, y] = toMap(view, px, py);
  const scale = Math.min(Math.max(view.scale * factor, minScale), maxScale);
  const zoomed = { ...view, scale };
  zoomed.x = x - (px - view.width / 2) / scale;
  zoomed.y = y + (py - view.height / 2) / scale;
  return zoomed;
}

/** @param {View} view @returns {View} with the map dragged by (dx, dy) pixels */
export function panBy(view, dx, dy) {
  return { ...view, x: view.x - dx / view.scale, y: view.y + dy / view.scale };
}

/** @param {View} a @param {View} b @param {number} t in [0, 1] @returns {View} between the two; zoom changes evenly */
export function mixViews(a, b, t) {
  const scale = Math.exp(Math.log(a.scale) * (1 - t) + Math.log(b.scale) * t);
  return { ...b, x: a.x + (b.x - a.x) * t, y: a.y + (b.y - a.y) * t, scale };
}

/** @param {Float32Array} a @param {Float32Array} b as long @param {number} t in [0, 1] @returns {Float32Array} positions between the two */
export function mixXY(a, b, t) {
  const out = new Float32Array(b.length);
  for (let i = 0; i < b.length; i++) out[i] = a[i] * (1 - t) + b[i] * t;
  return out;
}

/** @param {number} t in [0, 1] @returns {number} slow at both ends */
export function ease(t) {
  return t < 0.5 ? 4 * t * t * t : 1 - (-2 * t + 2) ** 3 / 2;
}

/**
 * Index positions in a uniform grid with about two points a cell, points of one cell beside each other.
 * Positions that are not finite are left out.
 * @param {Float32Array} xy @returns {Grid}
 */
export function buildGrid(xy) {
  const n = xy.length / 2;
  const { minX, minY, maxX, maxY } = boundsOf(xy);
  const width = Math.max(maxX - minX, 1e-9), height = Math.max(maxY - minY, 1e-9);
  // A side is capped, so that points on one line do not ask for n cells in a row and none across.
  const cell = Math.max(Math.sqrt((width * height * 2) / Math.max(n, 1)), Math.max(width, height) / 1024);
  const columns = Math.floor(width / cell) + 1, rows = Math.floor(height / cell) + 1;
  const cellOf = new Int32Array(n);
  const starts = new Uint32Array(columns * rows + 1);
  for (let i = 0; i < n; i++) {
    const x = xy[2 * i], y = xy[2 * i + 1];
    if (!Number.isFinite(x) || !Number.isFinite(y)) { cellOf[i] = -1; continue; }
    cellOf[i] = Math.floor((y - minY) / cell) * columns + Math.floor((x - minX) / cell);
    starts[cellOf[i] + 1]++;
  }
  for (let c = 0; c < columns * rows; c++) starts[c + 1] += starts[c];
  const items = new Uint32Array(starts[columns * rows]);
  const next = starts.slice();
  for (let i = 0; i < n; i++) if (cellOf[i] >= 0) items[next[cellOf[i]]++] = i;
  return { xy, columns, rows, minX, minY, cell, starts, items };
}

/**
 * Exact nearest row by walking the grid in growing rings until no ring can hold a nearer point; ties go to the lower row.
 * @param {Grid} grid @param {number} reach the farthest accepted distance in map units
 * @param {Uint8Array | null} visible 0 hides a row
 * @returns {number} row, or -1
 */
export function nearestRow(grid, x, y, reach = Infinity, visible = null) {
  const { xy, columns, rows, cell, starts, items } = grid;
  const homeX = Math.floor((x - grid.minX) / cell), homeY = Math.floor((y - grid.minY) / cell);
  let best = -1, bestSquare = reach === Infinity ? Infinity : reach * reach;
  const firstRing = Math.max(0, -homeX, homeX - columns + 1, -homeY, homeY - rows + 1);
  const lastRing = Math.max(Math.abs(homeX), Math.abs(homeX - columns + 1), Math.abs(homeY), Math.abs(homeY - rows + 1));
  const scan = (column, row) => {
    const c = row * columns + column;
    for (let j = starts[c]; j < starts[c + 1]; j++) {
      const i = items[j];
      if (visible && !visible[i]) continue;
      const dx = xy[2 * i] - x, dy = xy[2 * i + 1] - y, square = dx * dx + dy * dy;
      if (square < bestSquare || (square === bestSquare && (best < 0 || i < best))) { best = i; bestSquare = square; }
    }
  };
  for (let ring = firstRing; ring <= lastRing; ring++) {
    // Every cell of this ring is at least (ring - 1) cells away from the position, wherever that lies in its own cell.
    const gap = Math.max(ring - 1, 0) * cell;
    if (gap * gap > bestSquare) break;
    const left = homeX - ring, right = homeX + ring, low = homeY - ring, high = homeY + ring;
    for (let row = Math.max(low, 0); row <= Math.min(high, rows - 1); row++) {
      if (row === low || row === high) {
        for (let column = Math.max(left, 0); column <= Math.min(right, columns - 1); column++) scan(column, row);
      } else {
        if (left >= 0 && left < columns) scan(left, row);
        if (right >= 0 && right < columns) scan(right, row);
      }
    }
  }
  return best;
}

/**
 * Exact nearest row of positions between two layouts, one after the other; ties go to the lower row.
 * @param {Float32Array} a @param {Float32Array} b as long @param {number} t in [0, 1]
 * @param {number} reach the farthest accepted distance in map units @param {Uint8Array | null} visible 0 hides a row
 * @returns {number} row, or -1
 */
export function nearestBetween(a, b, t, x, y, reach = Infinity, visible = null) {
  let best = -1, bestSquare = reach === Infinity ? Infinity : reach * reach;
  for (let i = 0; i < b.length / 2; i++) {
    if (visible && !visible[i]) continue;
    const dx = a[2 * i] * (1 - t) + b[2 * i] * t - x, dy = a[2 * i + 1] * (1 - t) + b[2 * i + 1] * t - y, square = dx * dx + dy * dy;
    if (square < bestSquare || (square === bestSquare && best < 0)) { best = i; bestSquare = square; }
  }
  return best;
}

/** Even-odd rule. @param {ArrayLike<number>} polygon x0, y0, x1, y1, ... closed by itself @returns {boolean} */
export function pointInPolygon(polygon, x, y) {
  let inside = false;
  const n = polygon.length / 2;
  for (let i = 0, j = n - 1; i < n; j = i++) {
    const xi = polygon[2 * i], yi = polygon[2 * i + 1], xj = polygon[2 * j], yj = polygon[2 * j + 1];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}

/** @param {Grid} grid @param {Bounds} box @returns {Uint32Array} rows inside or on the edge, ascending */
export function rowsInBox(grid, box, visible = null) {
  return rowsWhere(grid, box, visible, () => true);
}

/** @param {Grid} grid @param {ArrayLike<number>} polygon @returns {Uint32Array} rows inside, ascending */
export function rowsInPolygon(grid, polygon, visible = null) {
  if (polygon.length < 6) return new Uint32Array(0);
  return rowsWhere(grid, boundsOf(polygon), visible, (x, y) => pointInPolygon(polygon, x, y));
}

/**
 * Rows inside a box where they are few; where they are many, and none is hidden, it looks at none of them.
 * @param {Grid} grid @param {Bounds} box @param {number} most @returns {Uint32Array | null} ascending; null: more than `most`
 */
export function fewRowsInBox(grid, box, most, visible = null) {
  const { columns, rows, cell, starts } = grid;
  const clamp = (value, last) => Math.min(Math.max(Math.floor(value / cell), 0), last);
  const left = clamp(box.minX - grid.minX, columns - 1), right = clamp(box.maxX - grid.minX, columns - 1);
  const low = clamp(box.minY - grid.minY, rows - 1), high = clamp(box.maxY - grid.minY, rows - 1);
  let count = 0; // in the cells that lie inside altogether
  for (let row = low + 1; row < high && right > left; row++) count += starts[row * columns + right] - starts[row * columns + left + 1];
  if (count > most && !visible) return null;
  const found = rowsInBox(grid, box, visible);
  return found.length > most ? null : found;
}

function rowsWhere(grid, box, visible, accept) {
  const { xy, columns, rows, cell, starts, items } = grid;
  const clamp = (value, last) => Math.min(Math.max(Math.floor(value / cell), 0), last);
  const left = clamp(box.minX - grid.minX, columns - 1), right = clamp(box.maxX - grid.minX, columns - 1);
  const low = clamp(box.minY - grid.minY, rows - 1), high = clamp(box.maxY - grid.minY, rows - 1);
  const found = [];
  for (let row = low; row <= high; row++) {
    for (let j = starts[row * columns + left]; j < starts[row * columns + right + 1]; j++) {
      const i = items[j], x = xy[2 * i], y = xy[2 * i + 1];
      if (x < box.minX || x > box.maxX || y < box.minY || y > box.maxY) continue;
      if ((!visible || visible[i]) && accept(x, y)) found.push(i);
    }
  }
  return Uint32Array.from(found).sort();
}

/**
 * The next row from `row` in a direction, for walking the map by keyboard: near, and not far off the direction.
 * @param {Float32Array} xy @param {number} dx @param {number} dy one of them 0, y up @returns {number} row, or -1
 */
export function stepInDirection(xy, row, dx, dy, visible = null) {
  let best = -1, bestCost = Infinity;
  for (let i = 0; i < xy.length / 2; i++) {
    if (i === row || (visible && !visible[i])) continue;
    const offX = xy[2 * i] - xy[2 * row], offY = xy[2 * i + 1] - xy[2 * row + 1];
    const along = offX * dx + offY * dy, across = Math.abs(offX * dy) + Math.abs(offY * dx);
    if (!(along > 0) || across > 2 * along) continue;
    const cost = along + 2 * across;
    if (cost < bestCost) { best = i; bestCost = cost; }
  }
  return best;
}

/** @returns {Uint32Array} 0..n-1 in a fixed shuffled order: drawn in table order, the last class would cover the others */
export function shuffledRows(n, seed = 1) {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  let state = seed >>> 0;
  for (let i = n - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((state / 4294967296) * (i + 1));
    const kept = order[i];
    order[i] = order[j];
    order[j] = kept;
  }
  return order;
}
