// Pure colors: palettes that color-blind readers can tell apart, perceptually even ramps, and scales for columns.
// Interpolation runs in OKLab (B. Ottosson, 2020, "A perceptual color space for image processing").

/** @typedef {{name: string, kind: "category" | "number" | "text", codes?: Int32Array, categories?: string[], values?: Float32Array | string[],
 *  range?: [number, number]}} Column
 *  `text`: of too many kinds to color by; `range`: the ends of a scale that do not follow from the values */

// The first six are Okabe and Ito's (2008) without black and yellow, which vanish on dark and on white paper. Each of the
// others is the color farthest in OKLab from all before it, as seen with normal, deuteranope and protanope vision
// (Machado et al. 2009), among those of medium lightness and chroma.
export const CATEGORY_COLORS = [
  "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#841830", "#48f0c0", "#243c9c", "#6c84f0",
  "#84546c", "#a83c00", "#d8d860", "#90c084", "#84d8fc", "#78186c", "#30ccc0", "#846c54", "#d8843c", "#3054b4",
];

/** @returns {[number, number, number]} sRGB 0..255 */
function hexToRgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

/** @param {ArrayLike<number>} rgb sRGB 0..255 @returns {[number, number, number]} L in [0, 1], a, b */
export function rgbToOklab(rgb) {
  const [r, g, b] = Array.from(rgb, (v) => {
    const c = v / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

/** @param {[number, number, number]} lab @returns {[number, number, number]} sRGB 0..255, clipped to the gamut */
export function oklabToRgb([L, a, b]) {
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((v) => {
    const c = v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055;
    return Math.min(Math.max(c, 0), 1) * 255;
  });
}

/**
 * A table of 256 colors through a few anchors, evenly spaced along their path in OKLab, so that equal steps of the value
 * look like equal steps.
 * @param {string[]} anchors hex @returns {Uint8Array} 256 x 3
 */
export function ramp(anchors) {
  const labs = anchors.map((hex) => rgbToOklab(hexToRgb(hex)));
  const reached = [0];
  for (let i = 1; i < labs.length; i++) reached.push(reached[i - 1] + Math.hypot(...labs[i].map((v, c) => v - labs[i - 1][c])));
  const total = reached[reached.length - 1];
  const table = new Uint8Array(256 * 3);
  for (let i = 0, part = 1; i < 256; i++) {
    const at = (i / 255) * total;
    while (part < labs.length - 1 && reached[part] < at) part++;
    const t = (at - reached[part - 1]) / (reached[part] - reached[part - 1]);
    table.set(oklabToRgb(labs[part].map((v, c) => labs[part - 1][c] * (1 - t) + v * t)).map(Math.round), 3 * i);
  }
  return table;
}

// Both ends must stand out from the paper, so the light and the dark theme have ramps of their own.
const SEQUENTIAL = { light: ["#c9d34f", "#63b56b", "#1f8a86", "#2b5a8c", "#3b2a70"], dark: ["#4a4a9c", "#2f7299", "#2f9a8c", "#7dc46a", "#eee55c"] };
const DIVERGING = { light: ["#0b4f9e", "#5b93cc", "#c9c9c6", "#d98a54", "#9c3a00"], dark: ["#7cc0ff", "#4679b3", "#55555a", "#b3682f", "#ffb06b"] };
// Over a photo the ramp starts at nothing (it is drawn with growing opacity) and ends bright.
const EVIDENCE = ["#30105c", "#8a1a7c", "#d9365e", "#f98a2b", "#fff27a"];
const EVIDENCE_SIGNED = ["#00c2ff", "#0a6fd6", "#6b6b70", "#d14a12", "#ffa02e"];
const tables = new Map();

function cachedRamp(anchors) {
  if (!tables.has(anchors)) tables.set(anchors, ramp(anchors));
  return tables.get(anchors);
}

export const sequentialTable = (dark) => cachedRamp(dark ? SEQUENTIAL.dark : SEQUENTIAL.light);
export const divergingTable = (dark) => cachedRamp(dark ? DIVERGING.dark : DIVERGING.light);
const evidenceTable = (signed) => cachedRamp(signed ? EVIDENCE_SIGNED : EVIDENCE);

/** @returns {[number, number, number]} the color of a category's rank by size; gray beyond the palette */
export function categoryColor(rank, dark) {
  if (rank < 0 || rank >= CATEGORY_COLORS.length) return dark ? [120, 120, 124] : [160, 160, 164];
  const rgb = hexToRgb(CATEGORY_COLORS[rank]);
  const [L, a, b] = rgbToOklab(rgb);
  // On dark paper all move up together: lifting the darkest alone would press them into the others.
  return dark ? oklabToRgb([0.49 + (L - 0.4) * 0.9, a, b]).map(Math.round) : rgb;
}

/** @returns {string} three significant digits, without a tail of zeros */
export function formatNumber(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(1).replace("-", "−").replace("e−", "e-");
  const text = size >= 1000 ? Math.round(value).toString() : Number(value.toPrecision(3)).toString();
  return text.replace("-", "−");
}

/** @returns {number[]} round values inside [min, max], about `count` of them */
export function niceTicks(min, max, count = 4) {
  if (!(max > min)) return [min];
  const raw = (max - min) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const ticks = [];
  for (let i = Math.ceil(min / step - 1e-9); i * step <= max + step * 1e-9; i++) ticks.push(i === 0 ? 0 : Number((i * step).toPrecision(12)));
  return ticks;
}

/**
 * How one column is shown. `colorOf(row)` is sRGB 0..255.
 * category: `entries` [{code, name, count, color}]. The most frequent, as many as there are colors, take these in the order
 * of the table (by name), as in the figures of Python: so a label keeps its color. The rest is one gray entry of code -2.
 * number: `min`, `max`, `table`; the column's `range` where it has one, else centered on 0 where the values have both signs.
 * Rows without a value are gray, counted in `missing`.
 * @param {Column | null} column @param {boolean} dark
 */
export function columnScale(column, dark) {
  const gray = categoryColor(-1, dark);
  if (!column) {
    const ink = dark ? [122, 160, 200] : [62, 100, 140];
    return { kind: "none", colorOf: () => ink, missing: 0, gray };
  }
  return column.kind === "category" ? categoryScale(column, dark, gray) : numberScale(column, dark, gray);
}

function categoryScale(column, dark, gray) {
  const counts = new Array(column.categories.length).fill(0);
  let missing = 0;
  for (const code of column.codes) if (code >= 0) counts[code]++; else missing++;
  const used = counts.map((count, code) => ({ code, count })).filter((c) => c.count > 0);
  const ranked = [...used].sort((a, b) => b.count - a.count || a.code - b.code);
  const rest = ranked.slice(CATEGORY_COLORS.length);
  const shown = ranked.slice(0, CATEGORY_COLORS.length).sort((a, b) => a.code - b.code);
  const colors = new Array(counts.length).fill(gray);
  const isNamed = column.categories.length === 2 && column.categories[0] === "no" && column.categories[1] === "yes";
  const entries = shown.map(({ code, count }, rank) => {
    // Who is one of them stands out from who is not.
    colors[code] = isNamed ? (code ? hexToRgb(dark ? "#ff7ab0" : "#c2185b") : gray) : categoryColor(rank, dark);
    return { code, name: column.categories[code], count, color: colors[code] };
  });
  if (rest.length) entries.push({ code: -2, name: `${rest.length} others`, count: rest.reduce((sum, c) => sum + c.count, 0), color: gray });
  const named = new Set(shown.map((c) => c.code));
  const entryOf = (row) => { const code = column.codes[row]; return !(code >= 0) ? -1 : named.has(code) ? code : -2; };
  return { kind: "category", entries, missing, gray, entryOf, colorOf: (row) => (column.codes[row] >= 0 ? colors[column.codes[row]] : gray) };
}

function numberScale(column, dark, gray) {
  const values = column.values;
  let min = Infinity, max = -Infinity, missing = 0;
  for (const value of values) {
    if (!Number.isFinite(value)) { missing++; continue; }
    if (value < min) min = value;
    if (value > max) max = value;
  }
  if (min > max) { min = 0; max = 1; }
  const diverging = min < 0 && max > 0 && !column.range;
  if (column.range) [min, max] = column.range;
  if (diverging) { max = Math.max(-min, max); min = -max; }
  const table = diverging ? divergingTable(dark) : sequentialTable(dark);
  const span = max - min || 1;
  const colorOf = (row) => {
    const value = values[row];
    if (!Number.isFinite(value)) return gray;
    const at = 3 * Math.round(Math.min(Math.max((value - min) / span, 0), 1) * 255);
    return [table[at], table[at + 1], table[at + 2]];
  };
  return { kind: "number", min, max, table, missing, gray, colorOf };
}

/** @returns {string} the value of a column at a row, in words; a row beyond the column has none */
export function columnText(column, row) {
  if (column.kind === "number") return formatNumber(column.values[row] ?? NaN);
  if (column.kind === "text") return column.values[row] || "–";
  const code = column.codes[row];
  return code >= 0 ? column.categories[code] : "–";
}

/**
 * Colors of one evidence map, cell by cell, on one scale for all panels; a cell's opacity grows with its size.
 * @param {ArrayLike<number>} map @param {boolean} signed @param {number} limit the value at the end of the scale
 * @param {number} opacity in [0, 1] @returns {Uint8ClampedArray} one RGBA a cell, not premultiplied
 */
export function evidenceColors(map, signed, limit, opacity) {
  const out = new Uint8ClampedArray(map.length * 4), table = evidenceTable(signed);
  for (let i = 0; i < map.length; i++) {
    if (!Number.isFinite(map[i])) continue;
    const share = limit > 0 ? Math.min(Math.max(map[i] / limit, signed ? -1 : 0), 1) : 0;
    const at = 3 * Math.round((signed ? (share + 1) / 2 : share) * 255);
    out.set([table[at], table[at + 1], table[at + 2], 255 * opacity * Math.abs(share)], 4 * i);
  }
  return out;
}
