// What is known of the images among each other: true neighbors, similarities, and what follows from both. Guests, images that
// were added to the explorer's n, are rows n, n + 1, ... Pure.

/** @typedef {{indices: Int32Array, similarities: Float32Array, randoms: Float32Array, can_explain: boolean, why_not: string}} Graph
 *  `indices`, `similarities`: k for each image, best first, -1 where there are fewer; `randoms`: quantiles, 0 to 1, of the similarity of random pairs */

/**
 * @param {ArrayLike<number>} quantiles ascending, of 0 to 1 in even steps @returns {number | null} percent, 0..100, of random
 *   values that lie below; null where nothing is known
 */
export function percentileOf(quantiles, value) {
  const last = quantiles.length - 1;
  if (last < 1 || !Number.isFinite(value)) return null;
  let low = 0, high = last + 1; // the first quantile that is not below the value
  while (low < high) {
    const middle = (low + high) >> 1;
    if (quantiles[middle] < value) low = middle + 1;
    else high = middle;
  }
  if (low === 0) return 0;
  if (low > last) return 100;
  const step = quantiles[low] - quantiles[low - 1];
  return (100 * (low - 1 + (step > 0 ? (value - quantiles[low - 1]) / step : 0))) / last;
}

/** @param {ArrayLike<number>} indices @returns {Float32Array} (n,) how often each image is among the neighbors of others */
export function timesNeighbor(indices, n) {
  const times = new Float32Array(n);
  for (let i = 0; i < indices.length; i++) if (indices[i] >= 0) times[indices[i]]++;
  return times;
}

/**
 * @param {{ids: string[], k: number, graphs: Graph[]}} data
 * @param {{id: string, graphs: {rows: Int32Array, similarities: Float32Array}[]}[]} guests may grow
 */
export function createRelations(data, guests) {
  const n = data.ids.length, rows = new Map(data.ids.map((id, row) => [id, row]));

  /** @returns {{rows: Int32Array, similarities: Float32Array}} best first */
  function near(row, graph) {
    if (row >= n) return guests[row - n].graphs[graph];
    const { indices, similarities } = data.graphs[graph], from = row * data.k, found = indices.subarray(from, from + data.k), alike = similarities.subarray(from, from + data.k);
    if (!found.includes(-1)) return { rows: found, similarities: alike };
    return { rows: found.filter((r) => r >= 0), similarities: alike.filter((_, i) => found[i] >= 0) };
  }

  function among(row, other, graph) {
    const { rows: found, similarities } = near(row, graph), at = found.indexOf(other);
    return at < 0 ? null : similarities[at];
  }

  return {
    n,
    count: () => n + guests.length,
    idOf: (row) => (row < n ? data.ids[row] : guests[row - n].id),
    /** @returns {number} row, or -1 */
    rowOf(id) {
      const guest = guests.findIndex((one) => one.id === id);
      return guest >= 0 ? n + guest : (rows.get(id) ?? -1);
    },
    near,
    /** @returns {number | null} the similarity of two images where it is known without asking: one is a neighbor of the other */
    similarity: (a, b, graph) => (a === b ? 1 : among(a, b, graph) ?? among(b, a, graph)),
    percentile: (value, graph) => percentileOf(data.graphs[graph].randoms, value),
  };
}
