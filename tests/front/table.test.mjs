import assert from "node:assert/strict";
import { test } from "node:test";
import { csvCell, csvOf, shortNumber, sortRows } from "../../vizkit/widgets/static/csv.js";
import { refusal } from "../../vizkit/widgets/static/drop.js";

const DATA = {
  ids: ["img10.png", "img9.png", "=HYPERLINK(\"http://x\")", "שלום.png"],
  columns: [
    { name: "label", kind: "category", codes: Int32Array.from([1, 0, -1, 2]), categories: ["b,eta", "Alpha", "say \"hi\""] },
    { name: "score", kind: "number", values: Float32Array.from([0.1, -2.5, NaN, 1e20]) },
    { name: "+note", kind: "text", values: ["two\nlines", "@cmd", "-12.5", " kept "] },
  ],
};

/** A reader of RFC 4180 of our own making, character by character. */
function readCsv(text) {
  const lines = [[""]];
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const line = lines[lines.length - 1], cell = line.length - 1;
    if (quoted) {
      if (text[i] === '"' && text[i + 1] === '"') { line[cell] += '"'; i++; } else if (text[i] === '"') quoted = false;
      else line[cell] += text[i];
    } else if (text[i] === '"') quoted = true;
    else if (text[i] === ",") line.push("");
    else if (text[i] === "\r" && text[i + 1] === "\n") { lines.push([""]); i++; } else line[cell] += text[i];
  }
  return lines.slice(0, -1);
}

test("the file reads back as the table, cell by cell", () => {
  assert.deepEqual(readCsv(csvOf([0, 1, 2, 3], DATA)), [
    ["id", "label", "score", "'+note"],
    ["img10.png", "Alpha", "0.1", "two\nlines"],
    ["img9.png", "b,eta", "-2.5", "'@cmd"],
    ["'=HYPERLINK(\"http://x\")", "", "", "-12.5"],
    ["שלום.png", "say \"hi\"", "100000000000000000000", " kept "],
  ]);
});

test("the file is as RFC 4180 has it: CRLF, quotes where they are needed and doubled inside", () => {
  assert.equal(csvOf([1, 3], { ids: DATA.ids, columns: DATA.columns.slice(0, 1) }), 'id,label\r\nimg9.png,"b,eta"\r\nשלום.png,"say ""hi"""\r\n');
  assert.equal(csvOf([], { ids: [], columns: [] }), "id\r\n");
});

test("what a spreadsheet would run as a formula is made a text; numbers stay numbers", () => {
  for (const text of ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "＝1", "-", "--5"]) assert.match(csvCell(text), /^"?'/, text);
  assert.match(csvCell("\r=1"), /^"'\r/);
  for (const text of ["-12.5", "+3", "-.5", "-1e-7", "plain", "a=b", "1-2", "x@y"]) assert.equal(csvCell(text), text);
  assert.equal(csvCell(-12.5), "-12.5");
  assert.equal(csvCell('=A1,"'), '"\'=A1,"""');
});

test("numbers of 32 bits are written as short as gives them back", () => {
  assert.deepEqual([0.1, 1 / 3, -12.345, 16777217, 3, 1e-7].map((v) => shortNumber(Math.fround(v))), ["0.1", "0.33333334", "-12.345", "16777216", "3", "1e-7"]);
  for (let i = 1; i < 3000; i++) {
    const value = Math.fround(Math.sin(i) * 10 ** ((i % 40) - 20));
    assert.equal(Math.fround(Number(shortNumber(value))), value);
  }
});

test("sorting: categories by name, numbers by size, numbers inside names too; no value last both ways; equal ones as they were", () => {
  const order = (place, down) => Array.from(sortRows([0, 1, 2, 3], DATA, place, down));
  assert.deepEqual(order(null, false), [0, 1, 2, 3]);
  assert.deepEqual(order(-1, false), [2, 1, 0, 3]);
  assert.deepEqual(order(0, false), [0, 1, 3, 2]);
  assert.deepEqual(order(0, true), [3, 1, 0, 2]);
  assert.deepEqual(order(1, false), [1, 0, 3, 2]);
  assert.deepEqual(order(1, true), [3, 0, 1, 2]);
  const same = { ids: ["d", "c", "b", "a"], columns: [{ name: "x", kind: "number", values: new Float32Array(4) }] };
  assert.deepEqual(Array.from(sortRows([2, 0, 3, 1], same, 0, true)), [2, 0, 3, 1]);
});

test("files that cannot be an image are refused in words, and others are taken", () => {
  const file = (name, type, size = 1000) => ({ name, type, size });
  assert.equal(refusal([file("a.jpg", "image/jpeg")]), "");
  assert.equal(refusal([file("scan.tiff", "")]), "", "a type that the browser does not know is looked at by the kernel");
  assert.match(refusal([]), /not a file/);
  assert.match(refusal([file("a", "image/png"), file("b", "image/png"), file("c", "")]), /One image at a time.*3 files/);
  assert.match(refusal([file("notes.pdf", "application/pdf")]), /“notes.pdf” is not an image \(application\/pdf\)/);
  assert.match(refusal([file("huge.png", "image/png", 9_150_000)]), /“huge.png” has 9\.2 MB; 8\.0 MB are the most .*explorer\.add\(path\) takes larger ones/);
  assert.equal(refusal([file("large.png", "image/png", 8_000_000)]), "");
  assert.match(refusal([file("larger.png", "image/png", 8_000_001)]), /has 8\.1 MB; 8\.0 MB/);
  assert.match(refusal([file("folder", "", 0)]), /empty, or a folder/);
  assert.ok(refusal([file("x".repeat(5000), "text/html")]).length < 300);
});
