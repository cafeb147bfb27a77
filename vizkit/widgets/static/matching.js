// Pure answers about patches that match: from the matrix of what every pair of patches of two images carries of their cosine.

import { formatNumber } from "./colors.js";

/**
 * @typedef {{similarity: number, rows_a: number, cols_a: number, rows_b: number, cols_b: number, matrix: Float32Array,
 *   best: [number, number, number][], carried: number | null, chance: number | null, low?: number | null, high?: number | null,
 *   trust?: import("./badge.js").Trust}} Matching
 *   matrix: (patches of a) x (patches of b), in points of cosine, adds up to the similarity; best: [patch of a, of b, carried]
 *   of those that are each other's most similar one, most first; carried, chance: the share of the cosine all of these carry, and in shuffled patches
 * @typedef {{side: "a" | "b", cell: number}} Patch
 */

/** @returns {"a" | "b"} */
export const otherSide = (side) => (side === "a" ? "b" : "a");

/** @param {Matching} matching @returns {{rows: number, cols: number}} */
export const gridOf = (matching, side) => ({ rows: matching[`rows_${side}`], cols: matching[`cols_${side}`] });

/** @returns {number} what one pair of patches carries */
export function entryOf(matching, { side, cell }, other) {
  const width = matching.rows_b * matching.cols_b;
  return matching.matrix[side === "a" ? cell * width + other : other * width + cell];
}

/** What a patch carries with each patch of the other image. @param {Matching} matching @param {Patch} patch @returns {Float32Array} */
export function carriedWith(matching, patch) {
  const { rows, cols } = gridOf(matching, otherSide(patch.side));
  return Float32Array.from({ length: rows * cols }, (_, other) => entryOf(matching, patch, other));
}

/** What each patch of one image carries with the other image as a whole. @param {Matching} matching @returns {Float32Array} */
export function carriedBy(matching, side) {
  const { rows, cols } = gridOf(matching, side), sums = new Float64Array(rows * cols), width = matching.rows_b * matching.cols_b;
  matching.matrix.forEach((value, i) => { sums[side === "a" ? Math.floor(i / width) : i % width] += value; });
  return Float32Array.from(sums);
}

/** @returns {number} the patch of the other image with which this one carries most */
export function strongestWith(matching, patch) {
  return carriedWith(matching, patch).reduce((best, value, other, all) => (value > all[best] ? other : best), 0);
}

/** @returns {number} the patch that is this one's mutual best match; -1: it has none */
export function mutualOf(matching, { side, cell }) {
  const at = side === "a" ? 0 : 1;
  return matching.best.find((match) => match[at] === cell)?.[1 - at] ?? -1;
}

/** @returns {number} the end of a scale that holds all values */
export const largestOf = (...arrays) => arrays.reduce((most, array) => array.reduce((m, v) => Math.max(m, Math.abs(v)), most), 0);

/** @returns {boolean} whether some values speak against as well, beyond rounding */
export const speaksAgainst = (...arrays) => {
  const limit = largestOf(...arrays);
  return arrays.some((array) => array.some((v) => v < -1e-3 * limit));
};

/** @returns {string} "row 3, column 4", counted from 1 */
export const placeText = ({ cols }, cell) => `row ${Math.floor(cell / cols) + 1}, column ${(cell % cols) + 1}`;

/** @returns {string} a share of the cosine; in points where that is not above 0, so that there is no share */
export function shareText(value, similarity) {
  if (!(similarity > 0)) return `${formatNumber(value)} points`;
  const percent = (100 * value) / similarity, digits = Math.abs(percent) >= 9.95 ? 0 : Math.abs(percent) >= 0.095 ? 1 : 2;
  return `${percent.toFixed(digits).replace("-", "−")}%`;
}

/** @param {Matching} matching @returns {string} what all mutual matches carry, and what chance does */
export function matchingWords({ best, carried, chance, low, high, similarity }) {
  if (!best.length) return "No two patches are each other's best match.";
  const [count, carry] = best.length === 1 ? ["1 pair of patches is each other's best match", "carries"] : [`${best.length} pairs of patches are each other's best matches`, "carry"];
  if (!Number.isFinite(carried)) return `${count}. The cosine is not above 0, so nothing carries a share of it.`;
  const span = Number.isFinite(low) && Number.isFinite(high) ? ` (${shareText(low, 1)} to ${shareText(high, 1)})` : "";
  const beside = Number.isFinite(chance) ? `; in shuffled patches ${shareText(chance, 1)}${span}` : "";
  const verdict = carried <= (high ?? chance ?? -Infinity) ? " That is no more than chance." : "";
  return `${count} and ${carry} ${shareText(carried, 1)} of the cosine ${formatNumber(similarity)}${beside}.${verdict}`;
}

/**
 * @param {Matching} matching @param {Patch} patch @param {Record<string, string>} names of both sides
 * @param {number} read the patch of the other image that is pointed at while this one is held; -1: none
 * @returns {string} what a patch carries, and with which; beside each share what an even spread would give
 */
export function patchWords(matching, { side, cell }, names, read = -1) {
  const there = otherSide(side), grid = gridOf(matching, side), otherGrid = gridOf(matching, there), whole = matching.similarity;
  const parts = carriedWith(matching, { side, cell }), sum = parts.reduce((total, v) => total + v, 0);
  const share = (v) => shareText(v, whole), even = (count) => (whole > 0 ? ` (even spread: ${shareText(1 / count, 1)})` : "");
  const cells = grid.rows * grid.cols, pairs = cells * otherGrid.rows * otherGrid.cols, head = `${names[side]}, ${placeText(grid, cell)}`;
  if (read >= 0) return `${head}, with ${names[there].toLowerCase()}, ${placeText(otherGrid, read)}: ${share(parts[read])} of the cosine${even(pairs)}.`;
  const mutual = mutualOf(matching, { side, cell }), most = strongestWith(matching, { side, cell });
  const match = mutual >= 0 ? `Mutual best match: ${placeText(otherGrid, mutual)}, ${share(parts[mutual])}${even(pairs)}.` : "No mutual best match.";
  const strongest = most === mutual ? "" : ` Carries most with ${placeText(otherGrid, most)}, ${share(parts[most])}.`;
  return `${head}: carries ${share(sum)} of the cosine${even(cells)}. ${match}${strongest}`;
}
