// What a search means: words that may stand anywhere, and what a column is asked for. Pure, and quick at 100,000 rows.

/** @typedef {import("./colors.js").Column} Column a column of kind "text" has `values`, a text a row */
/** @typedef {{at: number, op: string, text: string, low: number, high: number, slack: number}} Term
 *   at: place of the column, -1 for the ids, -2 for all of them; op: "has", "is", or "within" [low, high], by `text` or by number */
/** @typedef {{terms: Term[], notes: string[], words: string}} Search `notes`: what was not understood; `words`: all that may stand anywhere */

const EVERYWHERE = -2, IDS = -1;
const OPERATOR = /\s*(>=|<=|≥|≤|[:<>=])\s*/y;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/;
const NAMES_TOLD = 6;
const RANKED = 20000; // rows whose beginnings are looked at: who finds more is not done typing

/** @param {unknown} text @returns {string} one form for what reads the same: case, composed letters, curly quotes, the true minus */
export function foldText(text) {
  const plain = String(text);
  // Most names are plain, and there may be 100,000 of them.
  if (/^[\x20-\x7e]*$/.test(plain)) return plain.toLowerCase();
  return plain.normalize("NFKC").toLowerCase().replace(/[“”„]/g, '"').replace(/−/g, "-");
}

/** @param {string} text folded @returns {number} NaN for what is no number */
function readNumber(text) {
  return NUMBER.test(text) ? Number(text) : NaN;
}

/**
 * Read a search: words (all must be found, in the id or any column), "phrases in quotes", `column:part`, `column=whole`,
 * `column>3`, `>=`, `<`, `<=`, `column=3..5`. A column whose name has spaces may be in quotes. `id` is a column too.
 * @param {string} text @param {Column[]} columns @returns {Search}
 */
export function parseSearch(text, columns) {
  const whole = foldText(text), terms = [], notes = [], words = [];
  const names = columns.map((column, at) => ({ at, name: foldText(column.name) }));
  if (!names.some(({ name }) => name === "id")) names.push({ at: IDS, name: "id" });
  names.sort((a, b) => b.name.length - a.name.length);
  for (let at = nextText(whole, 0); at < whole.length; at = nextText(whole, at)) {
    const asked = columnAt(whole, at, names);
    const piece = readPiece(whole, asked ? asked.end : at);
    at = Math.max(piece.end, at + 1);
    if (asked) {
      const term = columnTerm(asked, piece, columns[asked.at]);
      if (term.note) notes.push(term.note);
      else terms.push(term);
      continue;
    }
    if (!piece.text.trim()) continue;
    const like = piece.quoted ? null : piece.text.match(/^([^:<>=≥≤]+)[:<>=≥≤]/);
    if (like) notes.push(`No column is called “${like[1].slice(0, 40)}”, so this was searched as text. ${tellNames(columns)}`);
    words.push(piece.text);
    terms.push({ at: EVERYWHERE, op: "has", text: piece.text, ...numberSpan("=", piece.text) });
  }
  return { terms, notes, words: words.join(" ") };
}

function nextText(text, at) {
  while (at < text.length && /\s/.test(text[at])) at++;
  return at;
}

/** @returns {{text: string, quoted: boolean, end: number}} up to the closing quote, or to the next space or quote */
function readPiece(text, at) {
  if (text[at] === '"') {
    const close = text.indexOf('"', at + 1), end = close < 0 ? text.length : close;
    return { text: text.slice(at + 1, end), quoted: true, end: end + 1 };
  }
  let end = at;
  while (end < text.length && !/[\s"]/.test(text[end])) end++;
  return { text: text.slice(at, end), quoted: false, end };
}

/** @returns {{at: number, name: string, op: string, end: number} | null} a column's name and what is asked of it; `end`: where the value begins */
function columnAt(text, at, names) {
  const quote = text[at] === '"' ? 1 : 0;
  for (const { at: column, name } of names) {
    if (!text.startsWith(name, at + quote) || (quote && text[at + 1 + name.length] !== '"')) continue;
    OPERATOR.lastIndex = at + name.length + 2 * quote;
    const found = OPERATOR.exec(text);
    if (found) return { at: column, name, op: found[1].replace("≥", ">=").replace("≤", "<="), end: OPERATOR.lastIndex };
  }
  return null;
}

function columnTerm({ at, name, op }, piece, column) {
  const shown = /[\s:<>=]/.test(name) ? `"${name}"` : name, numeric = column?.kind === "number";
  if (!piece.text) return { note: numeric ? `What should ${shown} be? For example ${shown}>3 or ${shown}=1..5.` : `What should ${shown} be? Write a part of it: ${shown}:word.` };
  const span = numberSpan(op === ":" ? "=" : op, piece.text);
  if (numeric) {
    if (Number.isNaN(span.low)) return { note: `“${piece.text.slice(0, 40)}” is no number. Write ${shown}>3, ${shown}<=0.5 or ${shown}=1..5.` };
    return { at, op: "within", text: piece.text, ...span };
  }
  if (op === ":" || (op === "=" && !isRange(piece.text))) return { at, op: op === ":" ? "has" : "is", text: piece.text, ...numberSpan("", "") };
  if (Number.isNaN(span.low)) return { note: `“${piece.text.slice(0, 40)}” is no number, and ${shown} holds words. Write ${shown}:word.` };
  return { at, op: "within", text: piece.text, ...span };
}

const isRange = (text) => /\.{2,3}/.test(text) && !Number.isNaN(numberSpan("=", text).low);

/**
 * The numbers that are meant. Those typed with a decimal point stand for all that round to them, as the interface shows them rounded.
 * @returns {{low: number, high: number, slack: number}} both ends belong to it; low is NaN for what is no number
 */
function numberSpan(op, text) {
  const range = text.match(/^(.*?)\.{2,3}(.*)$/);
  if (op === "=" && range && range[1] + range[2]) {
    const low = range[1] ? readNumber(range[1]) : -Infinity, high = range[2] ? readNumber(range[2]) : Infinity;
    if (Number.isNaN(low) || Number.isNaN(high)) return { low: NaN, high: NaN, slack: 0 };
    return { low: Math.fround(Math.min(low, high)), high: Math.fround(Math.max(low, high)), slack: 0 };
  }
  const value = readNumber(text), exact = Math.fround(value), decimals = text.match(/^[+-]?\d*\.(\d+)$/);
  const slack = op === "=" && decimals ? 0.5000001 * 10 ** -decimals[1].length : 0;
  if (Number.isNaN(value)) return { low: NaN, high: NaN, slack: 0 };
  if (op === ">" || op === ">=") return { low: op === ">" ? above(exact) : exact, high: Infinity, slack: 0 };
  if (op === "<" || op === "<=") return { low: -Infinity, high: op === "<" ? -above(-exact) : exact, slack: 0 };
  return { low: exact, high: exact, slack };
}

const BITS = new DataView(new ArrayBuffer(4));

/** @returns {number} the next larger number of 32 bits, as the columns hold them */
function above(value) {
  if (!Number.isFinite(value)) return value;
  if (value === 0) return 2 ** -149;
  BITS.setFloat32(0, value);
  BITS.setInt32(0, BITS.getInt32(0) + (value > 0 ? 1 : -1));
  return BITS.getFloat32(0);
}

function tellNames(columns) {
  if (!columns.length) return "There are no columns here.";
  const names = columns.slice(0, NAMES_TOLD).map((column) => String(column.name).slice(0, 40));
  return `Columns: ${names.join(", ")}${columns.length > NAMES_TOLD ? ` and ${columns.length - NAMES_TOLD} more` : ""}.`;
}

/**
 * Texts ready to be searched, folded once when first needed: per category where a column has categories, not per row.
 * @param {{ids: string[], columns: Column[]}} data @param {ReturnType<typeof createIndex> | null} before of data that may share its ids
 */
export function createIndex(data, before = null) {
  const texts = new Map();
  if (before && before.ids === data.ids && before.texts.has(IDS)) texts.set(IDS, before.texts.get(IDS));
  return {
    ids: data.ids, columns: data.columns, texts,
    /** Fold all that a word may stand in, before the first key. */
    warm() {
      for (const [at, column] of [[IDS, null], ...data.columns.entries()]) if (column?.kind !== "number") this.textsOf(at);
    },
    /** @param {number} at place of a column, or -1 @returns {string[]} folded: a row's, or a category's */
    textsOf(at) {
      if (!texts.has(at)) {
        const column = data.columns[at];
        texts.set(at, (at === IDS ? data.ids : column.kind === "category" ? column.categories : column.values).map(foldText));
      }
      return texts.get(at);
    },
  };
}

/** @param {Search} search @param {ReturnType<typeof createIndex>} index @returns {Uint8Array | null} 1 for each row that all terms hold for; null: nothing is asked */
export function matchRows(search, index) {
  if (!search.terms.length) return null;
  const n = index.ids.length, mask = new Uint8Array(n).fill(1);
  for (const term of search.terms) {
    const hit = term.at === EVERYWHERE ? new Uint8Array(n) : null;
    if (!hit) narrow(mask, index, term, term.at);
    else {
      addRows(hit, mask, index, term, IDS);
      for (let at = 0; at < index.columns.length; at++) addRows(hit, mask, index, term, at);
      for (let row = 0; row < n; row++) mask[row] &= hit[row];
    }
  }
  return mask;
}

function narrow(mask, index, term, at) {
  const hit = new Uint8Array(mask.length);
  addRows(hit, mask, index, term, at);
  mask.set(hit);
}

/** Mark the rows of `mask` that a term holds for in one column. */
function addRows(hit, mask, index, term, at) {
  const column = index.columns[at], n = mask.length;
  if (column?.kind === "number") {
    if (Number.isNaN(term.low)) return;
    const values = column.values, low = term.low - term.slack, high = term.high + term.slack;
    for (let row = 0; row < n; row++) if (mask[row] && values[row] >= low && values[row] <= high) hit[row] = 1;
    return;
  }
  const texts = index.textsOf(at), test = testOf(term);
  if (column?.kind === "category") {
    const accepted = Uint8Array.from(texts, test), codes = column.codes;
    if (accepted.includes(1)) for (let row = 0; row < n; row++) if (codes[row] >= 0 && accepted[codes[row]]) hit[row] = 1;
    return;
  }
  for (let row = 0; row < n; row++) if (mask[row] && !hit[row] && test(texts[row])) hit[row] = 1;
}

/** @param {Term} term @returns {(text: string) => boolean} for folded texts */
function testOf({ op, text, low, high }) {
  if (op === "has") return (other) => other.includes(text);
  if (op === "is") return (other) => other === text;
  return (other) => { const value = readNumber(other.trim()); return value >= low && value <= high; };
}

/**
 * The rows to list: an id that is what was typed, then ids (or their file names) that begin with it, then the others in their order.
 * @param {Uint8Array} mask @param {Search} search @param {ReturnType<typeof createIndex>} index @returns {number[]} at most `most` rows
 */
export function firstRows(mask, search, index, most) {
  const ranks = [[], [], []], words = search.words, texts = words ? index.textsOf(IDS) : null;
  let left = RANKED;
  for (let row = 0; row < mask.length; row++) {
    if (!mask[row]) continue;
    let rank = 2;
    if (words) {
      const text = texts[row];
      if (text === words) rank = 0;
      else if (left-- > 0 && (text.startsWith(words) || text.startsWith(words, text.lastIndexOf("/") + 1))) rank = 1;
    }
    if (ranks[rank].length < most) ranks[rank].push(row);
    if (!words && ranks[2].length === most) break;
  }
  return ranks.flat().slice(0, most);
}

/** @param {Search} search @param {ReturnType<typeof createIndex>} index @returns {number[]} places of the columns that tell why a row was found */
export function tellingColumns(search, index, row) {
  const places = new Set();
  for (const term of search.terms) {
    if (term.at >= 0) places.add(term.at);
    if (term.at !== EVERYWHERE || index.textsOf(IDS)[row].includes(term.text)) continue;
    const found = index.columns.findIndex((column) => {
      if (column.kind === "number") return column.values[row] >= term.low - term.slack && column.values[row] <= term.high + term.slack;
      const at = index.columns.indexOf(column), text = column.kind === "category" ? index.textsOf(at)[column.codes[row]] : index.textsOf(at)[row];
      return text?.includes(term.text);
    });
    if (found >= 0) places.add(found);
  }
  return [...places].slice(0, 3);
}
