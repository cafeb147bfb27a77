// A table as text: sorted, and as a file that other programs read (RFC 4180) and that is safe to open in a spreadsheet. Pure.

import { foldText } from "./filter.js";

/** @typedef {{ids: string[], columns: import("./colors.js").Column[]}} TableData */

const PLAIN_NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
// What a spreadsheet takes for the beginning of a formula (OWASP, "CSV Injection"); the wide forms count as the narrow ones.
const FORMULA = /^[=+\-@\t\r\n＝＋－＠]/;

/** @param {TableData} data @returns {string | number | null} what a column says, unrounded; null where it says nothing */
function cellValue(data, place, row) {
  if (place < 0) return data.ids[row];
  const column = data.columns[place];
  if (column.kind === "number") return Number.isFinite(column.values[row]) ? column.values[row] : null;
  if (column.kind === "text") return column.values[row];
  return column.codes[row] < 0 ? null : column.categories[column.codes[row]];
}

/** @param {number} value of 32 bits @returns {string} as few digits as give it back */
export function shortNumber(value) {
  for (let digits = 6; digits < 9; digits++) {
    const text = Number(value.toPrecision(digits));
    if (Math.fround(text) === Math.fround(value)) return String(text);
  }
  return String(Number(value.toPrecision(9)));
}

/**
 * One field of a CSV file. A text that a spreadsheet would run as a formula gets an apostrophe before it, as spreadsheets
 * themselves write it; a number stays a number, whatever its sign.
 * @param {string | number | null} value @returns {string}
 */
export function csvCell(value) {
  if (value === null) return "";
  const text = typeof value === "number" ? shortNumber(value) : FORMULA.test(value) && !PLAIN_NUMBER.test(value) ? `'${value}` : value;
  return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** @param {ArrayLike<number>} rows in the order they are to have @param {TableData} data @returns {string} with a line of names, and CRLF after each line */
export function csvOf(rows, data) {
  const places = [-1, ...data.columns.keys()];
  const lines = [places.map((place) => csvCell(place < 0 ? "id" : data.columns[place].name))];
  for (let at = 0; at < rows.length; at++) lines.push(places.map((place) => csvCell(cellValue(data, place, rows[at]))));
  return lines.map((cells) => `${cells.join(",")}\r\n`).join("");
}

/**
 * @param {ArrayLike<number>} rows @param {TableData} data @param {number | null} place column to sort by, -1 for the ids, null for none
 * @returns {Uint32Array} rows in order; those without a value come last both ways, equal ones stay as they were
 */
export function sortRows(rows, data, place, descending) {
  const order = Uint32Array.from(rows);
  if (place === null) return order;
  const keys = sortKeys(data, place), sign = descending ? -1 : 1;
  return order.sort((a, b) => {
    const x = keys(a), y = keys(b);
    if (x === null || y === null) return (x === null) - (y === null) || 0;
    return x < y ? -sign : x > y ? sign : 0;
  });
}

/** @returns {(row: number) => string | number | null} what rows are compared by: categories by their place among all, texts folded */
function sortKeys(data, place) {
  const column = data.columns[place];
  if (column?.kind === "category") {
    const order = Array.from(column.categories.keys()), names = column.categories.map(sortText), ranks = new Int32Array(order.length);
    order.sort((a, b) => (names[a] < names[b] ? -1 : names[a] > names[b] ? 1 : 0)).forEach((code, rank) => { ranks[code] = rank; });
    return (row) => (column.codes[row] < 0 ? null : ranks[column.codes[row]]);
  }
  if (column?.kind === "number") return (row) => (Number.isFinite(column.values[row]) ? column.values[row] : null);
  const texts = new Map();
  return (row) => {
    if (!texts.has(row)) texts.set(row, sortText(cellValue(data, place, row)));
    return texts.get(row);
  };
}

/** Numbers inside a text count as numbers: 2 comes before 10. */
function sortText(text) {
  return foldText(text).replace(/\d+/g, (digits) => digits.padStart(12, "0"));
}
