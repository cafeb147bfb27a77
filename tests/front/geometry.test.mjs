import assert from "node:assert/strict";
import { test } from "node:test";
import * as geometry from "../../vizkit/widgets/static/geometry.js";

/** A small generator with a seed: tests repeat. */
function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function cloud(n, seed, spread = () => 1) {
  const next = random(seed), xy = new Float32Array(2 * n);
  for (let i = 0; i < n; i++) {
    xy[2 * i] = (next() - 0.5) * spread(i);
    xy[2 * i + 1] = (next() - 0.5) * spread(i);
  }
  return xy;
}

function bruteNearest(xy, x, y, reach, visible) {
  let best = -1, bestSquare = reach * reach;
  for (let i = 0; i < xy.length / 2; i++) {
    if ((visible && !visible[i]) || !Number.isFinite(xy[2 * i])) continue;
    const square = (xy[2 * i] - x) ** 2 + (xy[2 * i + 1] - y) ** 2;
    if (square < bestSquare || (square === bestSquare && best < 0)) { best = i; bestSquare = square; }
  }
  return best;
}

const CLOUDS = {
  even: cloud(3000, 1),
  "one far outlier": cloud(3000, 2, (i) => (i === 17 ? 1000 : 1)),
  "tight clusters": cloud(3000, 3, (i) => 10 ** -(i % 5)),
  "on one line": Float32Array.from(cloud(500, 4).map((v, i) => (i % 2 ? 0 : v))),
  "all the same": new Float32Array(200).fill(0.25),
  "a single point": Float32Array.from([3, -4]),
  "with missing positions": cloud(300, 5).map((v, i) => (i % 20 < 2 ? NaN : v)),
};

for (const [name, xy] of Object.entries(CLOUDS)) {
  test(`the nearest row equals brute force: ${name}`, () => {
    const grid = geometry.buildGrid(xy), next = random(9);
    const { minX, minY, maxX, maxY } = geometry.boundsOf(xy), size = Math.max(maxX - minX, maxY - minY, 1);
    for (let trial = 0; trial < 400; trial++) {
      const x = minX + (next() * 1.6 - 0.3) * size, y = minY + (next() * 1.6 - 0.3) * size;
      const reach = [Infinity, size, size / 10, size / 300][trial % 4];
      assert.equal(geometry.nearestRow(grid, x, y, reach), bruteNearest(xy, x, y, reach));
    }
  });
}

test("each point is the nearest to its own position, and the lower row wins a tie", () => {
  const xy = Float32Array.from([...cloud(500, 6), ...cloud(500, 6)]), grid = geometry.buildGrid(xy);
  for (let row = 0; row < 1000; row++) assert.equal(geometry.nearestRow(grid, xy[2 * row], xy[2 * row + 1]), row % 500);
});

test("hidden rows are never found", () => {
  const xy = CLOUDS.even, grid = geometry.buildGrid(xy), visible = Uint8Array.from({ length: 3000 }, (_, i) => Number(i % 3 === 0));
  const next = random(10);
  for (let trial = 0; trial < 300; trial++) {
    const x = next() - 0.5, y = next() - 0.5;
    assert.equal(geometry.nearestRow(grid, x, y, Infinity, visible), bruteNearest(xy, x, y, Infinity, visible));
  }
  assert.equal(geometry.nearestRow(grid, 0, 0, Infinity, new Uint8Array(3000)), -1);
});

test("between two layouts the nearest row is that of the mixed positions", () => {
  const b = cloud(3000, 1), a = cloud(3000, 2), next = random(12), visible = Uint8Array.from({ length: 3000 }, (_, i) => Number(i % 3 === 0));
  a[20] = NaN;
  for (const t of [0, 0.3, 1]) {
    const mixed = Float64Array.from(b, (v, i) => a[i] * (1 - t) + v * t);
    for (let trial = 0; trial < 100; trial++) {
      const [x, y] = [next() * 1.6 - 0.8, next() * 1.6 - 0.8], reach = [Infinity, 0.1, 0.01][trial % 3], seen = trial % 2 ? visible : null;
      assert.equal(geometry.nearestBetween(a, b, t, x, y, reach, seen), bruteNearest(mixed, x, y, reach, seen));
    }
  }
  assert.equal(geometry.nearestBetween(Float32Array.of(0, 0, 0, 0), Float32Array.of(2, 2, 2, 2), 0.5, 1, 1), 0);
});

test("no points, no nearest row", () => {
  assert.equal(geometry.nearestRow(geometry.buildGrid(new Float32Array(0)), 0, 0), -1);
  assert.equal(geometry.nearestBetween(new Float32Array(0), new Float32Array(0), 0.5, 0, 0), -1);
});

test("the grid looks at few of 100,000 points", () => {
  const xy = cloud(100000, 11), grid = geometry.buildGrid(xy);
  let read = 0;
  grid.items = new Proxy(grid.items, { get(items, key) { read++; return items[key]; } });
  const next = random(12);
  for (let trial = 0; trial < 200; trial++) geometry.nearestRow(grid, next() - 0.5, next() - 0.5);
  assert.ok(read / 200 < 100, `${read / 200} points a question`);
});

test("screen and map positions are each other's inverse, and y points up", () => {
  const view = { x: 0.3, y: -0.7, scale: 123, width: 801, height: 487 };
  const [px, py] = geometry.toScreen(view, 0.5, 0.25), [x, y] = geometry.toMap(view, px, py);
  assert.ok(Math.abs(x - 0.5) < 1e-12 && Math.abs(y - 0.25) < 1e-12);
  assert.ok(geometry.toScreen(view, 0, 1)[1] < geometry.toScreen(view, 0, 0)[1]);
  assert.deepEqual(geometry.toScreen(view, 0.3, -0.7), [400.5, 243.5]);
});

test("zooming keeps the map position under the pointer, within the limits", () => {
  const view = geometry.fitView({ minX: -1, minY: -1, maxX: 1, maxY: 1 }, 600, 400);
  const before = geometry.toMap(view, 137, 321), zoomed = geometry.zoomAbout(view, 137, 321, 3.7);
  const after = geometry.toMap(zoomed, 137, 321);
  assert.ok(Math.hypot(before[0] - after[0], before[1] - after[1]) < 1e-12);
  assert.ok(Math.abs(zoomed.scale / view.scale - 3.7) < 1e-12);
  assert.equal(geometry.zoomAbout(view, 1, 1, 1e9, 0, 5000).scale, 5000);
});

test("panning moves the map with the pointer", () => {
  const view = { x: 0, y: 0, scale: 100, width: 600, height: 400 }, moved = geometry.panBy(view, 30, -12);
  const [px, py] = geometry.toScreen(view, 0.2, 0.1), [qx, qy] = geometry.toScreen(moved, 0.2, 0.1);
  assert.ok(Math.abs(qx - px - 30) < 1e-9 && Math.abs(qy - py + 12) < 1e-9);
});

test("a fitted view shows every point inside the margin and touches it", () => {
  for (const [width, height] of [[900, 300], [300, 900]]) {
    const xy = cloud(100, 7), view = geometry.fitView(geometry.boundsOf(xy), width, height, 20);
    let gap = Infinity;
    for (let i = 0; i < 100; i++) {
      const [px, py] = geometry.toScreen(view, xy[2 * i], xy[2 * i + 1]);
      gap = Math.min(gap, px - 20, py - 20, width - 20 - px, height - 20 - py);
    }
    assert.ok(gap > -1e-4 && gap < 1e-3, `${gap}`);
  }
});

test("normalized positions span [-1, 1], centered, in their own proportions", () => {
  const placed = (xy) => { const { x, y, factor } = geometry.layoutFrame(Float32Array.from(xy)); return xy.map((v, i) => (v - (i % 2 ? y : x)) * factor); };
  const out = placed([10, 5, 30, 5, 20, 10, NaN, 0]);
  assert.deepEqual(out.slice(0, 6), [-1, -0.25, 1, -0.25, 0, 0.25]);
  assert.deepEqual(placed([7, 7, 7, 7]), [0, 0, 0, 0]);
});

test("rows in a box are found where they are few, and not counted out where they are many", () => {
  const next = random(5), xy = Float32Array.from({ length: 4000 }, () => next()), grid = geometry.buildGrid(xy);
  for (const side of [0.02, 0.1, 0.4]) {
    const box = { minX: 0.3, minY: 0.4, maxX: 0.3 + side, maxY: 0.4 + side };
    const inside = Uint32Array.from({ length: 2000 }, (_, i) => i).filter((i) => xy[2 * i] >= box.minX && xy[2 * i] <= box.maxX && xy[2 * i + 1] >= box.minY && xy[2 * i + 1] <= box.maxY);
    assert.deepEqual(geometry.fewRowsInBox(grid, box, 100), inside.length > 100 ? null : inside);
    assert.deepEqual(geometry.fewRowsInBox(grid, box, inside.length), inside.length ? inside : Uint32Array.of());
    if (inside.length) assert.equal(geometry.fewRowsInBox(grid, box, inside.length - 1), null);
  }
});

test("a point is inside a convex polygon when it is on one side of every edge", () => {
  const corners = Array.from({ length: 7 }, (_, i) => [Math.cos((i * 2 * Math.PI) / 7), Math.sin((i * 2 * Math.PI) / 7)]);
  const next = random(8);
  for (let trial = 0; trial < 1000; trial++) {
    const x = 2.4 * (next() - 0.5), y = 2.4 * (next() - 0.5);
    const inside = corners.every(([ax, ay], i) => {
      const [bx, by] = corners[(i + 1) % 7];
      return (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0;
    });
    assert.equal(geometry.pointInPolygon(corners.flat(), x, y), inside);
  }
});

test("a hollow lasso leaves out what lies in its bay", () => {
  const horseshoe = [0, 0, 10, 0, 10, 10, 7, 10, 7, 3, 3, 3, 3, 10, 0, 10];
  const xy = Float32Array.from([1, 1, 5, 5, 8, 8, 5, 1, 5, 12]), grid = geometry.buildGrid(xy);
  assert.deepEqual(Array.from(geometry.rowsInPolygon(grid, horseshoe)), [0, 2, 3]);
  assert.deepEqual(Array.from(geometry.rowsInPolygon(grid, [0, 0, 10, 10])), []);
});

test("rows in a box and in a polygon equal a filter over all rows, ascending", () => {
  const xy = CLOUDS["one far outlier"], grid = geometry.buildGrid(xy), next = random(13);
  for (let trial = 0; trial < 100; trial++) {
    const box = { minX: -next(), minY: -next(), maxX: next(), maxY: next() };
    const expected = [];
    for (let i = 0; i < 3000; i++) {
      if (xy[2 * i] >= box.minX && xy[2 * i] <= box.maxX && xy[2 * i + 1] >= box.minY && xy[2 * i + 1] <= box.maxY) expected.push(i);
    }
    assert.deepEqual(Array.from(geometry.rowsInBox(grid, box)), expected);
    const corners = [box.minX, box.minY, box.maxX, box.minY, box.maxX, box.maxY, box.minX, box.maxY];
    assert.deepEqual(Array.from(geometry.rowsInPolygon(grid, corners)), expected);
    const odd = Uint8Array.from({ length: 3000 }, (_, i) => i % 2);
    assert.deepEqual(Array.from(geometry.rowsInBox(grid, box, odd)), expected.filter((i) => i % 2));
  }
});

test("positions between two layouts lie on the straight way, and at its ends on the layouts", () => {
  const a = Float32Array.of(0, 2, -4, 8), b = Float32Array.of(1, -2, -4, 0);
  assert.deepEqual(Array.from(geometry.mixXY(a, b, 0.25)), [0.25, 1, -4, 6]);
  assert.deepEqual([geometry.mixXY(a, b, 0), geometry.mixXY(a, b, 1)], [a, b]);
});

test("a step by keyboard goes to the near point in that direction", () => {
  const xy = Float32Array.from([0, 0, 1, 0.1, 3, 0, -1, 0, 0, 2, 0.2, -1]);
  assert.equal(geometry.stepInDirection(xy, 0, 1, 0), 1);
  assert.equal(geometry.stepInDirection(xy, 1, 1, 0), 2);
  assert.equal(geometry.stepInDirection(xy, 0, -1, 0), 3);
  assert.equal(geometry.stepInDirection(xy, 0, 0, 1), 4);
  assert.equal(geometry.stepInDirection(xy, 0, 0, -1), 5);
  assert.equal(geometry.stepInDirection(xy, 2, 1, 0), -1);
});

test("the drawing order holds every row once, is mixed, and repeats", () => {
  const order = geometry.shuffledRows(1000);
  assert.deepEqual(Array.from(order).sort((a, b) => a - b), Array.from({ length: 1000 }, (_, i) => i));
  assert.deepEqual(order, geometry.shuffledRows(1000));
  const mean = order.slice(0, 100).reduce((sum, row) => sum + row, 0) / 100;
  assert.ok(mean > 350 && mean < 650, `${mean}`);
});
