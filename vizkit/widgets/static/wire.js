// What travels from Python to the browser, and back into arrays: the same for a live notebook and for an exported page.

/** @param {DataView | ArrayBuffer | Uint8Array | null | undefined} bytes @returns {ArrayBuffer} a copy that starts on a word */
export function alignedBytes(bytes) {
  if (!bytes) return new ArrayBuffer(0);
  if (bytes instanceof ArrayBuffer) return bytes;
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
}

/** What a trait's value was decoded to: it is decoded once, however often something else changes. */
const decoded = new WeakMap();

const floatsOf = (bytes) => new Float32Array(alignedBytes(bytes));

function readColumn(column) {
  const { name, kind } = column;
  if (kind === "category") return { name, kind, categories: column.categories, codes: new Int32Array(alignedBytes(column.codes)) };
  return { name, kind, values: kind === "text" ? column.values : floatsOf(column.values) };
}

function readColumns(columns) {
  if (!decoded.has(columns)) decoded.set(columns, columns.map(readColumn));
  return decoded.get(columns);
}

/** @param {{get: (name: string) => any}} model @returns {import("./core.js").Data} */
export function readData(model) {
  const info = model.get("_info") ?? {}, thumbnails = model.get("_thumbnails");
  return {
    ids: model.get("ids") ?? [],
    maps: (model.get("_maps") ?? []).map((map) => ({
      name: map.name, title: map.title ?? "", note: map.note ?? "", graph: map.graph ?? 0, xy: floatsOf(map.xy), kept: floatsOf(map.kept),
    })),
    graphs: (model.get("_graphs") ?? []).map((graph) => ({
      indices: new Int32Array(alignedBytes(graph.indices)), similarities: floatsOf(graph.similarities), randoms: floatsOf(graph.randoms),
      can_explain: Boolean(graph.can_explain), why_not: graph.why_not ?? "",
    })),
    columns: readColumns(model.get("_columns") ?? []),
    thumbnails: thumbnails?.byteLength ? new Uint8Array(thumbnails.buffer ?? thumbnails, thumbnails.byteOffset ?? 0, thumbnails.byteLength) : null,
    offsets: model.get("_offsets")?.byteLength ? new Uint32Array(alignedBytes(model.get("_offsets"))) : null,
    k: model.get("_k") ?? 0,
    methods: info.methods ?? [],
    has_pictures: Boolean(info.has_pictures),
    coming: Boolean(model.get("_coming")),
  };
}

function sameNumbers(a, b) {
  if (a.length !== b.length) return false;
  // As whole numbers: a value that is none (NaN) equals itself, and nothing is converted.
  const x = new Int32Array(a.buffer, a.byteOffset, a.length), y = new Int32Array(b.buffer, b.byteOffset, b.length);
  for (let i = 0; i < x.length; i++) if (x[i] !== y[i]) return false;
  return true;
}

/**
 * Decoded again, equal bytes would look like new data: what did not change is handed on as it was.
 * @param {import("./core.js").Data} next changed in place @param {import("./core.js").Data} before
 */
export function keepSame(next, before) {
  for (const kind of ["maps", "graphs"]) {
    next[kind].forEach((part, i) => {
      const old = before[kind][i] ?? {};
      for (const [name, value] of Object.entries(part)) {
        if (ArrayBuffer.isView(value) && old[name] && sameNumbers(value, old[name])) part[name] = old[name];
      }
    });
  }
  return next;
}

/** @param {{done: number}} message @returns {import("./core.js").Part} */
export function readPart({ done }, [rows, offsets, files]) {
  return { done, rows: new Uint32Array(alignedBytes(rows)), offsets: new Uint32Array(alignedBytes(offsets)), files: new Uint8Array(alignedBytes(files)) };
}

/** @param {any} message @returns {import("./core.js").Guest} an image that is none of the explorer's own, with its picture */
export function readGuest({ id, note, maps, graphs }, [picture]) {
  return {
    id, note: note ?? "", maps: maps ?? [],
    graphs: (graphs ?? []).map(({ rows, similarities }) => ({ rows: Int32Array.from(rows), similarities: Float32Array.from(similarities) })),
    picture: new Uint8Array(alignedBytes(picture)),
  };
}

const blobOf = (bytes) => (bytes?.byteLength ? new Blob([alignedBytes(bytes)]) : null);

const READERS = {
  picture: (_, [image]) => ({ image: blobOf(image) }),
  evidence: (message, buffers) => ({
    ...message,
    query_seen: blobOf(buffers[0]),
    pairs: message.pairs.map((pair, i) => ({
      id: pair.id,
      similarity: pair.similarity,
      rows_a: pair.shape_a[0], cols_a: pair.shape_a[1], map_a: floatsOf(buffers[1 + 3 * i]),
      rows_b: pair.shape_b[0], cols_b: pair.shape_b[1], map_b: floatsOf(buffers[2 + 3 * i]),
      seen: blobOf(buffers[3 + 3 * i]),
    })),
  }),
  contrast: (message, buffers) => ({
    ...message,
    panels: message.panels.map((panel, i) => ({
      ...panel, rows: panel.shape[0], cols: panel.shape[1], map: floatsOf(buffers[2 * i]), seen: blobOf(buffers[2 * i + 1]),
    })),
  }),
  matches: (message, [matrix, seenA, seenB]) => ({
    ...message,
    rows_a: message.shape_a[0], cols_a: message.shape_a[1], rows_b: message.shape_b[0], cols_b: message.shape_b[1],
    matrix: floatsOf(matrix), seen_a: blobOf(seenA), seen_b: blobOf(seenB),
  }),
  similarities: (message, [values]) => ({ ...message, values: floatsOf(values) }),
  change: (message, [values]) => ({ ...message, values: floatsOf(values) }),
};

/** @returns {any} a reply's fields with its buffers put where the core looks for them */
export function readReply(name, message, buffers) {
  return READERS[name]?.(message, buffers) ?? message;
}
