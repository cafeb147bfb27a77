import assert from "node:assert/strict";
import { test } from "node:test";
import { buildGrid } from "../../vizkit/widgets/static/geometry.js";
import { placeTiles, tileSize, typicalSpacing } from "../../vizkit/widgets/static/mosaic.js";

/** A small generator with a seed: tests repeat. */
function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 4294967296;
  };
}

const WIDTH = 800, HEIGHT = 500;

function points(n, seed, tight = 1) {
  const next = random(seed);
  return Array.from({ length: n }, () => [(next() * 1.4 - 0.2) * WIDTH * tight, (next() * 1.4 - 0.2) * HEIGHT * tight]);
}

/** The scene of some points, with the map dragged by (dx, dy) pixels and zoomed about its corner. */
function scene(xy, { size = 36, dx = 0, dy = 0, zoom = 1, ...others } = {}) {
  const at = (row) => [xy[row][0] * zoom + dx, xy[row][1] * zoom + dy];
  const rows = Uint32Array.from(xy.keys()).filter((row) => { const [x, y] = at(row); return x > -size && x < WIDTH + size && y > -size && y < HEIGHT + size; });
  return { rows, at, size, width: WIDTH, height: HEIGHT, ...others };
}

/** The least distance of any two tiles, along the axis where they are farther apart. */
function closest(chosen, at) {
  let least = Infinity;
  for (let i = 0; i < chosen.length; i++) {
    const [x, y] = at(chosen[i]);
    for (let j = 0; j < i; j++) {
      const [u, v] = at(chosen[j]);
      least = Math.min(least, Math.max(Math.abs(x - u), Math.abs(y - v)));
    }
  }
  return least;
}

const CLOUDS = { sparse: points(60, 1), even: points(1500, 2), dense: points(9000, 3), "one heap": points(3000, 4, 0.05), "one place": Array.from({ length: 500 }, () => [200, 200]),
  "side by side": Array.from({ length: 200 }, (_, i) => [(i % 20) * 36, Math.floor(i / 20) * 36]) };

test("no two tiles overlap, and none lies off the screen", () => {
  for (const [name, xy] of Object.entries(CLOUDS)) {
    const view = scene(xy), chosen = placeTiles(view);
    assert.ok(chosen.length > 0 && new Set(chosen).size === chosen.length, name);
    assert.ok(closest(chosen, view.at) >= 36, name);
    for (const row of chosen) {
      const [x, y] = view.at(row);
      assert.ok(x > -18 && x < WIDTH + 18 && y > -18 && y < HEIGHT + 18, name);
    }
  }
});

test("a point is left out only where a tile is in its way", () => {
  for (const name of ["sparse", "even", "one heap"]) {
    const view = scene(CLOUDS[name]), chosen = placeTiles(view), set = new Set(chosen);
    for (const row of view.rows) {
      const [x, y] = view.at(row);
      if (set.has(row) || x <= -18 || x >= WIDTH + 18 || y <= -18 || y >= HEIGHT + 18) continue;
      assert.ok(chosen.some((other) => { const [u, v] = view.at(other); return Math.abs(u - x) < 36 && Math.abs(v - y) < 36; }), `${name} ${row}`);
    }
  }
});

test("while the map is panned, pixel by pixel or by fractions, every tile that stays in view stays", () => {
  for (const name of ["even", "dense", "side by side"]) {
    const xy = CLOUDS[name];
    let before = placeTiles(scene(xy));
    for (let step = 1; step <= 60; step++) {
      const view = scene(xy, { dx: step * 2.37, dy: -step * 1.113, before }), chosen = placeTiles(view), set = new Set(chosen);
      for (const row of before) {
        const [x, y] = view.at(row);
        if (x > -18 && x < WIDTH + 18 && y > -18 && y < HEIGHT + 18) assert.ok(set.has(row), `${name}: ${row} vanished at step ${step}`);
      }
      assert.ok(closest(chosen, view.at) >= 35.5);
      before = chosen;
    }
  }
});

test("zooming in keeps every tile in view, zooming out keeps those that still fit", () => {
  const xy = CLOUDS.even, before = placeTiles(scene(xy));
  const near = new Set(placeTiles(scene(xy, { zoom: 1.3, before })));
  for (const row of before) {
    const [x, y] = xy[row].map((v) => v * 1.3);
    if (x > -18 && x < WIDTH + 18 && y > -18 && y < HEIGHT + 18) assert.ok(near.has(row));
  }
  const view = scene(xy, { zoom: 0.7, before }), far = placeTiles(view);
  assert.ok(closest(far, view.at) >= 35.5);
  assert.ok(far.filter((row) => before.includes(row)).length > 0.4 * far.length);
});

test("rows that are hidden now are no tiles any more", () => {
  const view = scene(CLOUDS.even), before = placeTiles(view), half = view.rows.filter((row) => row % 2);
  for (const row of placeTiles({ ...view, rows: half, before })) assert.equal(row % 2, 1);
});

test("faint points give way to those that are meant", () => {
  const view = scene(CLOUDS.even), faint = (row) => row % 50 !== 0, before = placeTiles(view), meant = view.rows.filter((row) => !faint(row));
  const alone = placeTiles({ ...view, rows: meant });
  assert.equal(placeTiles({ ...view, faint, before }).filter((row) => !faint(row)).length, alone.length);
});

test("the query and its neighbors come before all others, as they are ordered", () => {
  const view = scene(CLOUDS.dense), before = placeTiles(view), inside = (row) => { const [x, y] = view.at(row); return x > 0 && x < WIDTH && y > 0 && y < HEIGHT; };
  const first = view.rows.filter((row) => inside(row) && !before.includes(row)).slice(0, 5);
  const chosen = placeTiles({ ...view, before, first });
  assert.equal(chosen[0], first[0]);
  assert.ok(closest(chosen, view.at) >= 35.5);
  assert.equal(new Set(chosen).size, chosen.length);
  assert.deepEqual(placeTiles({ ...view, before: chosen, first }), chosen, "and it rests");
  assert.deepEqual(placeTiles({ ...view, before, first: [99999] }), placeTiles({ ...view, before }), "what is not in view is no tile");
});

test("at most some hundreds, from the whole table", () => {
  const wide = { ...scene(points(6000, 7, 4)), width: 4000, height: 2500 };
  wide.rows = Uint32Array.from({ length: 6000 }, (_, row) => row);
  const chosen = placeTiles(wide);
  assert.equal(chosen.length, 300);
  const third = [0, 1, 2].map((part) => chosen.filter((row) => Math.floor(row / 2000) === part).length);
  assert.ok(Math.min(...third) > 60, `from each third of the table: ${third}`);
});

test("points without a position and no points at all are no tiles", () => {
  assert.deepEqual(placeTiles(scene([[NaN, NaN], [Infinity, 3]], {})), []);
  const lost = [[NaN, 5], [100, 100]];
  assert.deepEqual(placeTiles({ rows: Uint32Array.from([0, 1]), at: (row) => lost[row], size: 36, width: WIDTH, height: HEIGHT }), [1]);
  assert.deepEqual(placeTiles({ rows: new Uint32Array(0), at: () => [0, 0], size: 36, width: WIDTH, height: HEIGHT }), []);
});

test("pictures grow with the zoom from 32 to 64 pixels and no further, and begin only where points stand apart", () => {
  assert.equal(tileSize(4), 0);
  let last = 0, first = 0;
  for (let spacing = 1; spacing < 400; spacing *= 1.05) {
    const size = tileSize(spacing);
    assert.ok(size >= last && size <= 64 && (size === 0 || size >= 32));
    if (!last && size) first = size;
    last = size;
  }
  assert.ok(first < 34);
  assert.equal(last, 64);
});

test("the typical spacing is that of points on a lattice, and of the clusters where there are some", () => {
  const lattice = new Float32Array(2 * 2500).map((_, i) => 0.02 * (i % 2 ? Math.floor(i / 2 / 50) : (i >> 1) % 50));
  const spacing = typicalSpacing(buildGrid(lattice));
  assert.ok(spacing > 0.015 && spacing < 0.025, String(spacing));
  const next = random(5), pair = new Float32Array(4000).map((_, i) => (i < 2000 ? 0 : 10) + next() * 0.1);
  const within = typicalSpacing(buildGrid(pair));
  assert.ok(within < 0.05, `ten units lie between the clusters, ${within} between points`);
  assert.equal(typicalSpacing(buildGrid(new Float32Array(0))), 0);
});
