import assert from "node:assert/strict";
import { test } from "node:test";
import { discStamps, rasterPoints } from "../../vizkit/widgets/static/raster.js";

const WHITE = [255, 255, 255];

function drawn(positions, colors, { width = 40, height = 30, diameter = 9, paper = WHITE } = {}) {
  const pixels = new Int32Array(width * height), xy = Float32Array.from(positions.flat()), n = positions.length;
  rasterPoints(pixels, { width, height, paper, order: Uint32Array.from({ length: n }, (_, i) => i), rgba: Uint8Array.from(colors.flat()), from: xy, to: xy, mixed: 1, scale: 1, offsetX: 0, offsetY: 0, diameter });
  return { pixels, at: (x, y) => [0, 8, 16, 24].map((shift) => (pixels[y * width + x] >>> shift) & 255) };
}

test("a disc covers its area, wherever its center lies in a pixel", () => {
  for (const diameter of [2.6, 5, 9.3]) {
    const { starts, cover } = discStamps(diameter);
    for (let phase = 0; phase < 16; phase++) {
      const area = cover.subarray(starts[phase], starts[phase + 1]).reduce((sum, c) => sum + c, 0) / 256;
      assert.ok(Math.abs(area / (Math.PI * (diameter / 2) ** 2) - 1) < 0.08, `${diameter}: ${area}`);
    }
  }
});

test("a point is drawn in its color where it lies, y up, and paper stays paper", () => {
  const { at } = drawn([[10.5, -20.5]], [[200, 100, 50, 255]]);
  assert.deepEqual(at(10, 20), [200, 100, 50, 255]);
  assert.deepEqual(at(20, 10), [255, 255, 255, 255]);
  assert.deepEqual(at(10, 27), [255, 255, 255, 255]);
});

test("opacity mixes with the paper, and a later point lies over an earlier one", () => {
  const half = drawn([[10.5, -10.5]], [[0, 0, 0, 128]], { paper: [200, 100, 0] }).at(10, 10);
  assert.ok(Math.abs(half[0] - 100) <= 1 && Math.abs(half[1] - 50) <= 1 && half[2] === 0, `${half}`);
  assert.deepEqual(drawn([[10, -10], [10, -10]], [[255, 0, 0, 255], [0, 0, 255, 255]]).at(10, 10), [0, 0, 255, 255]);
});

test("hidden points, points without a position and points far away are not drawn", () => {
  const { pixels } = drawn([[10, -10], [NaN, -10], [1e9, -10], [-50, 50]], [[1, 2, 3, 0], [1, 2, 3, 255], [1, 2, 3, 255], [1, 2, 3, 255]]);
  assert.ok(pixels.every((pixel) => pixel === -1));
});

test("a point over the edge is cut there and does not come in on the other side", () => {
  const edge = drawn([[0, -15], [39.9, -15], [20, 0], [20, -29.9]], [0, 0, 0, 0].map(() => [0, 0, 0, 255]));
  assert.deepEqual(edge.at(0, 15), [0, 0, 0, 255]);
  assert.deepEqual(edge.at(39, 15), [0, 0, 0, 255]);
  const ink = edge.pixels.reduce((sum, pixel) => sum + (255 - (pixel & 255)) / 255, 0), halves = 4 * (Math.PI * 4.5 ** 2) / 2;
  assert.ok(Math.abs(ink / halves - 1) < 0.08, `${ink} of ${halves}`);
  assert.deepEqual(edge.at(20, 15), [255, 255, 255, 255]);
});
