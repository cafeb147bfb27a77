import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as colors from "../../vizkit/widgets/static/colors.js";

const near = (a, b, tolerance) => a.every((v, i) => Math.abs(v - b[i]) <= tolerance);
const distance = (a, b) => Math.hypot(...a.map((v, i) => v - b[i]));

// Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB.
const DEFICIENCIES = {
  normal: [1, 0, 0, 0, 1, 0, 0, 0, 1],
  protanopia: [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998],
  deuteranopia: [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.01182, 0.04294, 0.968881],
};

function seenWith(matrix, rgb) {
  const linear = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  const mixed = [0, 1, 2].map((r) => Math.min(Math.max(matrix.slice(3 * r, 3 * r + 3).reduce((s, m, c) => s + m * linear[c], 0), 0), 1));
  return colors.rgbToOklab(mixed.map((v) => 255 * (v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055)));
}

test("OKLab gives the published coordinates, and comes back", () => {
  assert.ok(near(colors.rgbToOklab([255, 255, 255]), [1, 0, 0], 1e-4));
  assert.ok(near(colors.rgbToOklab([255, 0, 0]), [0.62796, 0.22486, 0.12585], 1e-4));
  assert.ok(near(colors.rgbToOklab([0, 0, 255]), [0.45201, -0.03246, -0.31153], 1e-4));
  for (const rgb of [[0, 0, 0], [12, 200, 77], [255, 128, 3]]) assert.ok(near(colors.oklabToRgb(colors.rgbToOklab(rgb)), rgb, 0.01));
});

for (const dark of [false, true]) {
  test(`twenty categories can be told apart with and without red and green, ${dark ? "dark" : "light"}`, () => {
    const palette = Array.from({ length: 20 }, (_, rank) => colors.categoryColor(rank, dark));
    for (const [name, matrix] of Object.entries(DEFICIENCIES)) {
      const seen = palette.map((rgb) => seenWith(matrix, rgb));
      let closest = Infinity;
      for (let i = 0; i < 20; i++) for (let j = 0; j < i; j++) closest = Math.min(closest, distance(seen[i], seen[j]));
      assert.ok(closest > 0.055, `${name}: ${closest}`);
    }
  });

  test(`ramps change evenly and stand out from the paper, ${dark ? "dark" : "light"}`, () => {
    const paper = colors.rgbToOklab(dark ? [19, 20, 22] : [255, 255, 255])[0];
    const labs = Array.from({ length: 256 }, (_, i) => colors.rgbToOklab(colors.sequentialTable(dark).subarray(3 * i, 3 * i + 3)));
    for (const lab of labs) assert.ok(Math.abs(lab[0] - paper) > 0.15);
    const steps = Array.from({ length: 15 }, (_, i) => distance(labs[17 * i], labs[17 * (i + 1)]));
    assert.ok(Math.max(...steps) / Math.min(...steps) < 1.35, `${steps}`);
    for (let i = 17; i < 256; i += 17) assert.ok((labs[i][0] - labs[i - 17][0]) * (dark ? 1 : -1) > 0, "lightness is monotone");
  });
}

test("a diverging scale is centered on zero and as long on both sides", () => {
  const column = { name: "change", kind: "number", values: Float32Array.from([-1, 0, 4, NaN]) };
  const scale = colors.columnScale(column, false);
  assert.deepEqual([scale.min, scale.max, scale.missing], [-4, 4, 1]);
  const table = colors.divergingTable(false), [, a, b] = colors.rgbToOklab(scale.colorOf(1));
  assert.ok(Math.hypot(a, b) < 0.02, "zero has no hue");
  assert.deepEqual(scale.colorOf(2), Array.from(table.subarray(765)));
  assert.deepEqual(scale.colorOf(3), scale.gray);
});

test("a range is shown from end to end, whatever the values", () => {
  for (const values of [[0.4, 0.6], [-0.1, 0.2]]) {
    const scale = colors.columnScale({ name: "c", kind: "number", values: Float32Array.from(values), range: [-0.5, 1] }, false);
    assert.deepEqual([scale.min, scale.max, scale.table], [-0.5, 1, colors.sequentialTable(false)]);
  }
});

test("a row that a column does not reach has no value, and is gray", () => {
  const number = { name: "v", kind: "number", values: Float32Array.of(0.25) }, category = { name: "c", kind: "category", codes: Int32Array.of(0), categories: ["x"] };
  for (const column of [number, category]) {
    const scale = colors.columnScale(column, false);
    assert.deepEqual(scale.colorOf(1), scale.gray);
    assert.equal(colors.columnText(column, 1), "–");
  }
  assert.deepEqual([0, 1, 2].map((row) => colors.columnText({ name: "t", kind: "text", values: ["two words", ""] }, row)), ["two words", "–", "–"]);
});

test("beyond twenty categories the smallest share one gray", () => {
  const codes = new Int32Array(300).map((_, i) => (i < 250 ? i % 25 : i % 5));
  codes[299] = -1;
  const scale = colors.columnScale({ name: "c", kind: "category", codes, categories: Array.from({ length: 25 }, (_, i) => `c${i}`) }, false);
  assert.equal(scale.entries.length, 21);
  assert.equal(scale.entries[20].name, "5 others");
  assert.equal(scale.entries.reduce((sum, e) => sum + e.count, 0) + scale.missing, 300);
  assert.deepEqual(scale.colorOf(24), scale.gray);
  assert.equal(scale.entryOf(24), -2);
  assert.equal(scale.entryOf(299), -1);
  assert.notDeepEqual(scale.colorOf(0), scale.gray);
});

test("twenty-five labels have the colors that the figures of Python give them", () => {
  const shared = JSON.parse(readFileSync(new URL("labels25.json", import.meta.url), "utf8"));
  const categories = Object.keys(shared.counts).sort();
  const codes = Int32Array.from(categories.flatMap((name, code) => new Array(shared.counts[name]).fill(code)));
  const scale = colors.columnScale({ name: "label", kind: "category", codes, categories }, false);
  const hex = (rgb) => `#${rgb.map((v) => v.toString(16).padStart(2, "0")).join("")}`;
  assert.deepEqual(scale.entries.slice(0, -1).map((e) => [e.name, hex(e.color)]), shared.colors);
  assert.deepEqual([scale.entries.at(-1).name, scale.entries.at(-1).count], shared.others);
});

test("ticks are round, inside, and evenly spaced", () => {
  assert.deepEqual(colors.niceTicks(0, 1), [0, 0.25, 0.5, 0.75, 1]);
  assert.deepEqual(colors.niceTicks(-0.034, 0.034), [-0.02, 0, 0.02]);
  assert.deepEqual(colors.niceTicks(3, 3), [3]);
});

test("numbers are written with three digits and a true minus", () => {
  assert.deepEqual([0, 0.034567, -12.345, 12345, 1e-5, NaN].map(colors.formatNumber), ["0", "0.0346", "−12.3", "12345", "1.0e-5", "–"]);
});

test("an evidence map keeps its values: opacity grows with size, signs differ, what is missing is not drawn", () => {
  const unsigned = colors.evidenceColors(Float32Array.from([0, 0.5, 1, NaN]), false, 1, 1);
  assert.deepEqual([unsigned[3], unsigned[11], unsigned[15]], [0, 255, 0]);
  assert.ok(unsigned[7] > 0 && unsigned[7] < 255);
  const signed = colors.evidenceColors(Float32Array.from([-1, 0, 1]), true, 1, 0.5);
  assert.equal(signed[3], signed[11]);
  assert.equal(signed[7], 0);
  assert.ok(signed[2] > signed[0] && signed[8] > signed[10], "blue below zero, orange above");
});

test("one scale for all panels: half the limit has one color in every map", () => {
  const a = colors.evidenceColors(Float32Array.from([0.5, 0.1]), false, 1, 1), b = colors.evidenceColors(Float32Array.from([0.5, 0.9]), false, 1, 1);
  assert.deepEqual(a.slice(0, 4), b.slice(0, 4));
});

test("of a named selection those that are in it have the accent color, and the others are gray", () => {
  const column = { name: "odd", kind: "category", categories: ["no", "yes"], codes: Int32Array.of(0, 1, 0) }, gray = colors.categoryColor(-1, false);
  const { colorOf } = colors.columnScale(column, false);
  assert.deepEqual([0, 1, 2].map(colorOf), [gray, [0xc2, 0x18, 0x5b], gray]);
  assert.deepEqual(colors.columnScale({ ...column, categories: ["cat", "dog"] }, false).colorOf(0), colors.categoryColor(0, false));
});
