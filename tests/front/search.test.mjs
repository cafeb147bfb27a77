import assert from "node:assert/strict";
import { test } from "node:test";
import { createIndex, firstRows, matchRows, parseSearch, tellingColumns } from "../../vizkit/widgets/static/filter.js";

const IDS = ["disc/0001.png", "disc/0002.png", "ring/0003.png", "ring/0010.png", "Caf\u0065\u0301/\u05e9\u05dc\u05d5\u05dd.png"];
const COLUMNS = [
  { name: "label", kind: "category", codes: Int32Array.from([0, 0, 1, 1, -1]), categories: ["disc", "ring"] },
  { name: "rotation", kind: "number", values: Float32Array.from([-12.345, 0, 3, 5.5, NaN]) },
  { name: "neighbors kept", kind: "number", values: Float32Array.from([0.1, 0.25, 0.5, 0.75, 1]) },
  { name: "caption", kind: "text", values: ["A red square", "a square, red", "two foxes \u{1F98A}", "<img onerror=alert(1)>", ""] },
  { name: "digit", kind: "category", codes: Int32Array.from([0, 1, 2, 3, 3]), categories: ["1", "2", "10", "none"] },
  { name: "a", kind: "text", values: ["", "", "b=y", "", ""] },
  { name: "a:b", kind: "category", codes: Int32Array.from([0, 1, 0, 1, 0]), categories: ["x", "y"] },
];
const DATA = { ids: IDS, columns: COLUMNS };

/** @returns {{rows: number[] | null, notes: string[]}} */
function find(text, data = DATA) {
  const search = parseSearch(text, data.columns), mask = matchRows(search, createIndex(data));
  return { rows: mask && Array.from(mask.keys()).filter((row) => mask[row]), notes: search.notes };
}

/** The rows, of a search that is understood. */
function rows(text) {
  const found = find(text);
  assert.deepEqual(found.notes, [], text);
  return found.rows;
}

test("a word is found in ids and in any column, whatever its case", () => {
  assert.deepEqual(rows("RING"), [2, 3]);
  assert.deepEqual(rows("0010"), [3]);
  assert.deepEqual(rows("red"), [0, 1]);
  assert.deepEqual(rows("zebra"), []);
  assert.deepEqual(rows("5.5"), [3], "a number that a column holds");
});

test("several words must all be found, though in different columns; a phrase stands in quotes", () => {
  assert.deepEqual(rows("disc 0002"), [1]);
  assert.deepEqual(rows("red disc square"), [0, 1]);
  assert.deepEqual(rows('"red square"'), [0]);
  assert.deepEqual(rows("“red square”"), [0], "quotes as a keyboard makes them");
  assert.deepEqual(rows('"red squ'), [0], "a quote that is still open");
});

test("composed and decomposed letters, right-to-left and emoji read the same as they look", () => {
  assert.deepEqual(rows("café"), [4]);
  assert.deepEqual(rows("\u05e9\u05dc\u05d5\u05dd"), [4]);
  assert.deepEqual(rows("\u{1F98A}"), [2]);
});

test("column:part and column=whole ask one column alone", () => {
  assert.deepEqual(rows("label:is"), [0, 1]);
  assert.deepEqual(rows("label=is"), []);
  assert.deepEqual(rows("LABEL = Disc"), [0, 1]);
  assert.deepEqual(rows('caption:"square, red"'), [1]);
  assert.deepEqual(rows("id:ring"), [2, 3]);
  assert.deepEqual(rows("label: ring 0003"), [2]);
  assert.deepEqual(rows("a:b=y"), [1, 3], "a name that holds a colon, and begins as another does");
  assert.deepEqual(rows('a:"b=y"'), [2]);
});

test("numbers compare exactly at the ends, and no value is not found", () => {
  assert.deepEqual(rows("rotation>0"), [2, 3]);
  assert.deepEqual(rows("rotation>=0"), [1, 2, 3]);
  assert.deepEqual(rows("rotation ≥ 0"), [1, 2, 3]);
  assert.deepEqual(rows("rotation<0"), [0]);
  assert.deepEqual(rows("rotation <= 3"), [0, 1, 2]);
  assert.deepEqual(rows("rotation=3"), [2]);
  assert.deepEqual(rows("rotation:3"), [2]);
  assert.deepEqual(rows("rotation<1e9"), [0, 1, 2, 3]);
  assert.deepEqual(rows("rotation>−13 rotation<−12"), [0], "the minus sign as the interface writes it");
  assert.deepEqual(rows('"neighbors kept">0.1'), [1, 2, 3, 4], "0.1 is not more than 0.1, though 32 bits hold 0.10000000149");
  assert.deepEqual(rows("neighbors kept<=0.1"), [0], "a name with a space needs no quotes");
});

test("a number typed with decimals stands for those that are shown so; one without stands for itself", () => {
  assert.deepEqual(rows("rotation=-12.3"), [0]);
  assert.deepEqual(rows("rotation=-12.4"), []);
  assert.deepEqual(rows("rotation=-12"), []);
  assert.deepEqual(rows("neighbors kept=0.1"), [0]);
});

test("ranges hold both ends, may be open, and may be written backwards", () => {
  assert.deepEqual(rows("rotation=0..3"), [1, 2]);
  assert.deepEqual(rows("rotation:3..0"), [1, 2]);
  assert.deepEqual(rows("rotation=3.."), [2, 3]);
  assert.deepEqual(rows("rotation=..0"), [0, 1]);
  assert.deepEqual(rows("rotation=0…3"), [1, 2], "three dots become one sign on some keyboards");
});

test("labels that are numbers compare as numbers", () => {
  assert.deepEqual(rows("digit>1"), [1, 2]);
  assert.deepEqual(rows("digit=2..10"), [1, 2]);
  assert.deepEqual(rows("digit=10"), [2]);
});

test("what is not understood is said, and takes nothing away", () => {
  const unknown = find("colour:red");
  assert.deepEqual(unknown.rows, []);
  assert.match(unknown.notes[0], /No column is called “colour”, so this was searched as text. Columns: label, rotation, neighbors kept/);
  assert.deepEqual(find("onerror=alert").rows, [3], "searched as text");
  for (const [text, note] of [["ring rotation>abc", /“abc” is no number. Write rotation>3/], ["ring rotation:", /What should rotation be\?/], ["ring label>abc", /label holds words/], ["ring label:", /What should label be\?/], ['ring "neighbors kept">x', /"neighbors kept">3/], ["ring rotation>3,5", /“3,5” is no number/]]) {
    const found = find(text);
    assert.deepEqual(found.rows, [2, 3], text);
    assert.match(found.notes[0], note);
  }
  assert.deepEqual(find("rotation>").rows, null);
});

test("no text, no search; signs alone, quotes alone and 10,000 characters do no harm", () => {
  for (const text of ["", "   ", '"', '""', '" ']) assert.equal(find(text).rows, null, JSON.stringify(text));
  for (const text of [":", ">3", "=", "<>", "..", ":::", "\\", "(.*)", "[", "x".repeat(10000), '"'.repeat(999)]) find(text);
  assert.deepEqual(find(".*").rows, [], "a search is no pattern");
  assert.deepEqual(find("x", { ids: [], columns: [] }).rows, []);
});

test("the list begins with the id that was typed, then with names that begin so", () => {
  const data = { ids: ["b/cat 10", "x/other", "a/cat", "cat", "concat"], columns: [] }, index = createIndex(data), search = parseSearch("cat", []);
  const mask = matchRows(search, index);
  assert.deepEqual(firstRows(mask, search, index, 10), [3, 0, 2, 4]);
  assert.deepEqual(firstRows(mask, search, index, 2), [3, 0]);
});

test("a result tells the column that it was found by", () => {
  const index = createIndex(DATA);
  assert.deepEqual(tellingColumns(parseSearch("square label:disc", COLUMNS), index, 0), [3, 0]);
  assert.deepEqual(tellingColumns(parseSearch("0001", COLUMNS), index, 0), []);
  assert.deepEqual(tellingColumns(parseSearch("5.5", COLUMNS), index, 3), [1]);
});

test("texts are folded per category and once: another set of columns keeps those of the ids", () => {
  const first = createIndex(DATA), before = first.textsOf(-1);
  assert.equal(first.textsOf(0).length, 2);
  assert.equal(createIndex({ ids: IDS, columns: [] }, first).textsOf(-1), before);
  assert.notEqual(createIndex({ ids: [...IDS], columns: [] }, first).textsOf(-1), before);
});

test("at 100,000 rows the answer is that of a plain walk over the rows", () => {
  const n = 100_000, labels = Array.from({ length: 50 }, (_, i) => `kind ${i}`);
  const data = {
    ids: Array.from({ length: n }, (_, i) => `folder/${i % 97}/image ${i}.jpg`),
    columns: [{ name: "label", kind: "category", codes: Int32Array.from({ length: n }, (_, i) => (i * 7) % 50), categories: labels }, { name: "size", kind: "number", values: Float32Array.from({ length: n }, (_, i) => i / 3) }],
  };
  const search = parseSearch('kind 12 size>1000 "folder/1"', data.columns), mask = matchRows(search, createIndex(data));
  for (let i = 0; i < n; i++) {
    const label = labels[(i * 7) % 50], anywhere = (word) => data.ids[i].includes(word) || label.includes(word) || data.columns[1].values[i] === Number(word);
    assert.equal(Boolean(mask[i]), anywhere("kind") && anywhere("12") && data.ids[i].includes("folder/1") && Math.fround(i / 3) > 1000, `row ${i}`);
  }
});
