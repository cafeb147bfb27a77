import assert from "node:assert/strict";
import { test } from "node:test";
import {
  carriedBy, carriedWith, entryOf, largestOf, matchingWords, mutualOf, patchWords, placeText, shareText, speaksAgainst, strongestWith,
} from "../../vizkit/widgets/static/matching.js";

// Two patches of a beside each other, three of b one above the other; the matrix adds up to the cosine, 0.6.
const MATCHING = {
  similarity: 0.6, rows_a: 1, cols_a: 2, rows_b: 3, cols_b: 1, matrix: Float32Array.of(0.05, 0.3, 0.1, 0.02, 0.03, 0.1), best: [[0, 1, 0.3], [1, 2, 0.1]], carried: 0.4 / 0.6, chance: 0.25,
};
const near = (a, b) => a.forEach((v, i) => assert.ok(Math.abs(v - b[i]) < 1e-6, `${a} is not ${b}`));
const NAMES = { a: "Query", b: "Neighbor" };

test("what a patch carries with each other patch is its row, or its column, of the matrix", () => {
  near(carriedWith(MATCHING, { side: "a", cell: 1 }), [0.02, 0.03, 0.1]);
  near(carriedWith(MATCHING, { side: "b", cell: 1 }), [0.3, 0.03]);
  assert.ok(Math.abs(entryOf(MATCHING, { side: "b", cell: 2 }, 0) - 0.1) < 1e-6);
});

test("what the patches of either image carry adds up to the cosine", () => {
  near(carriedBy(MATCHING, "a"), [0.45, 0.15]);
  near(carriedBy(MATCHING, "b"), [0.07, 0.33, 0.2]);
});

test("the strongest partner need not be a mutual match", () => {
  assert.equal(strongestWith(MATCHING, { side: "b", cell: 0 }), 0);
  assert.equal(mutualOf(MATCHING, { side: "b", cell: 0 }), -1);
  assert.equal(mutualOf(MATCHING, { side: "b", cell: 2 }), 1);
  assert.equal(mutualOf(MATCHING, { side: "a", cell: 0 }), 1);
  assert.match(patchWords(MATCHING, { side: "b", cell: 0 }, NAMES), /^Neighbor, row 1, column 1: carries 12% of the cosine \(even spread: 33%\)\. No mutual best match\. Carries most with row 1, column 1, 8\.3%\.$/);
});

test("a share never stands alone: beside it stands what an even spread or chance would give", () => {
  assert.equal(patchWords(MATCHING, { side: "a", cell: 0 }, NAMES), "Query, row 1, column 1: carries 75% of the cosine (even spread: 50%). Mutual best match: row 2, column 1, 50% (even spread: 17%).");
  assert.equal(patchWords(MATCHING, { side: "a", cell: 0 }, NAMES, 2), "Query, row 1, column 1, with neighbor, row 3, column 1: 17% of the cosine (even spread: 17%).");
  assert.equal(matchingWords(MATCHING), "2 pairs of patches are each other's best matches and carry 67% of the cosine 0.6; in shuffled patches 25%.");
  assert.match(matchingWords({ ...MATCHING, low: 0.2, high: 0.3 }), /in shuffled patches 25% \(20% to 30%\)\.$/);
  assert.match(matchingWords({ ...MATCHING, low: 0.2, high: 0.7 }), /That is no more than chance\.$/);
  assert.match(matchingWords({ ...MATCHING, best: [[0, 1, 0.3]] }), /^1 pair of patches is each other's best match and carries/);
});

test("of a cosine that is not above 0 nothing is a share", () => {
  const none = { ...MATCHING, similarity: -0.1, carried: null, chance: null };
  assert.match(matchingWords(none), /The cosine is not above 0, so nothing carries a share of it\.$/);
  assert.equal(shareText(0.3, -0.1), "0.3 points");
  assert.doesNotMatch(patchWords(none, { side: "a", cell: 0 }, NAMES), /%/);
  assert.equal(matchingWords({ ...none, best: [] }), "No two patches are each other's best match.");
});

test("shares are told with as many digits as they need, and a true minus sign", () => {
  assert.deepEqual([0.2449, 0.05, 0.0005, 0.00004, -0.031, 1].map((v) => shareText(v, 1)), ["24%", "5.0%", "0.05%", "0.00%", "−3.1%", "100%"]);
});

test("cells are counted row by row, from 1", () => {
  assert.deepEqual([0, 6, 7, 20].map((cell) => placeText({ rows: 3, cols: 7 }, cell)), ["row 1, column 1", "row 1, column 7", "row 2, column 1", "row 3, column 7"]);
});

test("a scale has two sides only where values speak against, beyond rounding", () => {
  assert.equal(largestOf(Float32Array.of(-2, 1), [1.5]), 2);
  assert.equal(speaksAgainst(Float32Array.of(1, -1e-5)), false);
  assert.equal(speaksAgainst([1], [-0.1]), true);
});
