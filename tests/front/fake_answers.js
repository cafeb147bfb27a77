// What a kernel answers about evidence, contrast and matches, made up by rules that a test can repeat.
// A picture has an object of four parts, around a middle that its row tells; patches of one part match.

/** @returns {[number, number]} column and row of the object's middle */
const middleOf = (row, cells) => [0.3 * cells + ((row * 7) % 4) * 0.13 * cells, 0.3 * cells + ((row * 3) % 4) * 0.13 * cells];

/** @returns {number[][]} one vector a patch: four parts of the object, and a ground that differs from place to place */
function patchesOf(row, cells) {
  const [x, y] = middleOf(row, cells), reach = cells / 6;
  return Array.from({ length: cells * cells }, (_, i) => {
    const c = i % cells, r = Math.floor(i / cells);
    const parts = [[-1, -1], [1, -1], [-1, 1], [1, 1]].map(([dx, dy]) => Math.exp(-((c - x - dx * reach) ** 2 + (r - y - dy * reach) ** 2) / (2 * reach ** 2)));
    return [...parts, 0.1, 0.1 * Math.abs(Math.sin(1 + i * 12.9898 + row)), 0.1 * Math.abs(Math.sin(2 + i * 78.233 + row))];
  });
}

const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);

/** @returns {[number, number][]} patches that are each other's nearest by cosine */
function mutual(a, b) {
  const lengthsA = a.map((v) => Math.sqrt(dot(v, v))), lengthsB = b.map((v) => Math.sqrt(dot(v, v)));
  const bestFor = (of, from, ls, lf) => of.map((v, i) => from.reduce((best, u, j) => (dot(v, u) / (ls[i] * lf[j]) > best[1] ? [j, dot(v, u) / (ls[i] * lf[j])] : best), [-1, -Infinity])[0]);
  const there = bestFor(a, b, lengthsA, lengthsB), backAgain = bestFor(b, a, lengthsB, lengthsA);
  return there.map((j, i) => [i, j]).filter(([i, j]) => backAgain[j] === i);
}

/** @param {any} world {data, rowOf, pictureOf, options} */
function fakeMatches({ data, rowOf, pictureOf, options }, { query, neighbor, graph }) {
  if (options.matches === "error") throw new Error("Which patch matches which is known only where the vector is a mean over positions.");
  const cells = Number(options.cells ?? 7), a = patchesOf(rowOf.get(query), cells), b = patchesOf(rowOf.get(neighbor), cells);
  const similarity = similarityOf(data, rowOf, graph, query, neighbor), total = a.reduce((sum, v) => sum + b.reduce((s, u) => s + dot(v, u), 0), 0);
  const matrix = Float32Array.from(a.flatMap((v) => b.map((u) => (dot(v, u) / total) * similarity)));
  const best = mutual(a, b).map(([i, j]) => [i, j, matrix[i * cells * cells + j]]).sort((p, q) => q[2] - p[2]);
  const carried = similarity > 0 ? best.reduce((sum, match) => sum + match[2], 0) / similarity : null;
  return {
    similarity, rows_a: cells, cols_a: cells, rows_b: cells, cols_b: cells, matrix, best, carried, chance: carried === null ? null : 0.4 * carried,
    seen_a: pictureOf(rowOf.get(query)), seen_b: pictureOf(rowOf.get(neighbor)),
  };
}

/** The similarity that the graph tells; between others 0.25. */
function similarityOf(data, rowOf, graph, query, other) {
  const { indices, similarities } = data.graphs[graph ?? 0], q = rowOf.get(query);
  const at = indices.subarray(q * data.k, (q + 1) * data.k).indexOf(rowOf.get(other));
  return at < 0 ? 0.25 : similarities[q * data.k + at];
}

function fakeMap(a, b, cells, signed) {
  const [x, y] = middleOf(a, cells), reach = cells / 5, turn = ((b * 37) % 101) / 50 - 1;
  return Float32Array.from({ length: cells * cells }, (_, i) => {
    const c = i % cells, r = Math.floor(i / cells);
    const near = Math.exp(-((c - x - turn) ** 2 + (r - y) ** 2) / (2 * reach ** 2)), far = Math.exp(-((c - cells + x) ** 2 + (r - y) ** 2) / (1.5 * reach ** 2));
    return signed ? 0.03 * near - 0.02 * far : 0.002 + 0.032 * near;
  });
}

const TRUST = {
  green: "planted energy 0.61, 2.4 times the area share (0.25) and 0.33 above random weights",
  amber: "planted energy 0.34, hardly above the center prior (0.31)",
  red: "planted energy 0.26 is not above the area share 0.25",
};
const METHOD_TITLES = { contribution: "Contribution", occlusion: "Occlusion" };

function wordsFor(options, method) {
  const verdict = options.trust ?? (method === "occlusion" && options.better ? "green" : null);
  return { method, title: METHOD_TITLES[method] ?? method, unit: "points of cosine", layer: "features.18", trust: { verdict, reason: verdict ? TRUST[verdict] : "nothing was measured" } };
}

/** Contribution answers for all; with `parts` or `better`, occlusion for one, and names the rest. */
function fakeEvidence({ data, rowOf, pictureOf, options }, { graph, query, neighbors, method }) {
  const signed = options.evidence === "signed", cells = Number(options.cells ?? 7), q = rowOf.get(query), given = method ?? "contribution";
  const now = given === "occlusion" && (options.parts || options.better) ? neighbors.slice(0, 1) : neighbors;
  const pairs = now.map((id) => ({
    id, similarity: similarityOf(data, rowOf, graph, query, id), seen: pictureOf(rowOf.get(id)),
    rows_a: cells, cols_a: cells, map_a: fakeMap(q, rowOf.get(id), cells, signed),
    rows_b: cells, cols_b: cells, map_b: fakeMap(rowOf.get(id), q, cells, signed),
  }));
  return {
    ...wordsFor(options, given), signed, limit: 0.034, reason: method ? "chosen by the caller" : "exact here: the vector is a mean over positions",
    query_seen: pictureOf(q), pairs, pending: neighbors.slice(now.length), better: method ? null : options.better ?? null, verdicts: {},
  };
}

function fakeContrast({ data, rowOf, pictureOf, options }, { graph, query, near, far, method }) {
  const cells = Number(options.cells ?? 7), ids = [query, near, far], others = [near, query, query];
  const similarities = [near, far].map((id) => similarityOf(data, rowOf, graph, query, id)), value = similarities[0] - similarities[1];
  return {
    ...wordsFor(options, method ?? "contribution"), signed: true, limit: 0.034, reason: "exact here: the vector is a mean over positions", value, similarities,
    headline: `Nearer to ${value > 0 ? "this" : "that"} one by ${Math.abs(value).toFixed(3)}.`,
    panels: ids.map((id, i) => ({ name: ["query", "near", "far"][i], rows: cells, cols: cells, residual: 0, map: fakeMap(rowOf.get(id), rowOf.get(others[i]), cells, true), seen: pictureOf(rowOf.get(id)) })),
  };
}

/**
 * @param {{data: any, rowOf: Map<string, number>, pictureOf: (row: number) => Blob | null, options: any}} world data as the front end has it;
 *   options: evidence "unsigned" | "signed" | "error", cells, trust "green" | "amber" | "red", better "occlusion", parts, matches "error"
 * @param {"evidence" | "contrast" | "matches"} name
 * @returns {any} what readReply gives
 */
globalThis.makeFakeAnswer = (world, name, payload) => {
  if (world.options.evidence === "error") throw new Error("Occlusion needs the pictures, and 'holiday/<b>1</b>.jpg' is not on this machine any more.");
  return { evidence: fakeEvidence, contrast: fakeContrast, matches: fakeMatches }[name](world, payload);
};
