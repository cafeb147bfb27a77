// What travels from Python to the browser, and back into arrays: the same for a live notebook and for an exported page.

/** @param {DataView | ArrayBuffer | Uint8Array | null | undefined} bytes @returns {ArrayBuffer} a copy that starts on a word */
export function alignedBytes(bytes) {
  if (!bytes) return new ArrayBuffer(0);
  if (bytes instanceof ArrayBuffer) return bytes;
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
}

/** @param {{get: (name: string) => any}} model @returns {import("./core.js").Data} */
export function readData(model) {
  const info = model.get("_info") ?? {}, thumbnails = model.get("_thumbnails");
  const columns = (model.get("_columns") ?? []).map((column) => ({
    name: column.name,
    kind: column.kind,
    ...(column.kind === "category"
      ? { categories: column.categories, codes: new Int32Array(alignedBytes(column.codes)) }
      : { values: new Float32Array(alignedBytes(column.values)) }),
  }));
  return {
    ids: model.get("ids") ?? [],
    xy: new Float32Array(alignedBytes(model.get("_xy"))),
    columns,
    thumbnails: thumbnails?.byteLength ? new Uint8Array(thumbnails.buffer ?? thumbnails, thumbnails.byteOffset ?? 0, thumbnails.byteLength) : null,
    offsets: model.get("_offsets")?.byteLength ? new Uint32Array(alignedBytes(model.get("_offsets"))) : null,
    graph: new Int32Array(alignedBytes(model.get("_graph"))),
    similarities: new Float32Array(alignedBytes(model.get("_similarities"))),
    k: model.get("_k") ?? 0,
    methods: info.methods ?? [],
    can_explain: Boolean(info.can_explain),
    why_not: info.why_not ?? "",
    has_pictures: Boolean(info.has_pictures),
    title: info.title ?? "",
    note: info.note ?? "",
    coming: Boolean(model.get("_coming")),
  };
}

/** @param {{done: number}} message @returns {import("./core.js").Part} */
export function readPart({ done }, [rows, offsets, files]) {
  return { done, rows: new Uint32Array(alignedBytes(rows)), offsets: new Uint32Array(alignedBytes(offsets)), files: new Uint8Array(alignedBytes(files)) };
}

/** @returns {any} a reply's fields with its buffers put where the core looks for them */
export function readReply(name, message, buffers) {
  const blob = (bytes) => (bytes?.byteLength ? new Blob([alignedBytes(bytes)]) : null);
  if (name === "picture") return { image: blob(buffers[0]) };
  const pairs = message.pairs.map((pair, i) => ({
    id: pair.id,
    similarity: pair.similarity,
    rows_a: pair.shape_a[0], cols_a: pair.shape_a[1], map_a: new Float32Array(alignedBytes(buffers[1 + 3 * i])),
    rows_b: pair.shape_b[0], cols_b: pair.shape_b[1], map_b: new Float32Array(alignedBytes(buffers[2 + 3 * i])),
    seen: blob(buffers[3 + 3 * i]),
  }));
  return { ...message, pairs, query_seen: blob(buffers[0]) };
}
