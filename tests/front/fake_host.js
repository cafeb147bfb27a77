// A host without Jupyter: data from a fixture, events kept in a list, evidence made up by a rule that a test can repeat.

/** @param {string} text base64 @returns {Uint8Array} */
function fromBase64(text) {
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/**
 * @param {any} fixture what page.py wrote
 * @param {{evidence?: "unsigned" | "signed" | "error" | "never" | "refuse" | "none", delay?: string}} options
 */
globalThis.makeFakeHost = (fixture, options) => {
  const floats = (text) => new Float32Array(fromBase64(text).buffer), ints = (text) => new Int32Array(fromBase64(text).buffer);
  const kind = options.evidence ?? "unsigned", delay = Number(options.delay ?? 0);
  const thumbnails = fixture.thumbnails ? fromBase64(fixture.thumbnails) : null;
  const offsets = fixture.offsets ? new Uint32Array(fromBase64(fixture.offsets).buffer) : null;
  const data = {
    ids: fixture.ids,
    xy: floats(fixture.xy),
    columns: fixture.columns.map((c) => (c.kind === "category" ? { ...c, codes: ints(c.codes) } : { ...c, values: floats(c.values) })),
    thumbnails, offsets,
    graph: ints(fixture.graph),
    similarities: floats(fixture.similarities),
    k: fixture.k,
    methods: [{ name: "contribution", title: "Contribution" }, { name: "occlusion", title: "Occlusion" }],
    can_explain: kind !== "none",
    why_not: kind === "none" ? "No encoder: these vectors came without a network." : "",
    has_pictures: Boolean(fixture.pictures),
    title: fixture.title, note: fixture.note,
  };
  const rowOf = new Map(data.ids.map((id, row) => [id, row]));
  const host = {
    data, events: [], requests: [], callback: null, moving: null,
    send(event) { host.events.push(event.type === "select" ? { type: "select", rows: Array.from(event.rows) } : event); },
    onState(callback) { host.callback = callback; },
    onMap(callback) { host.moving = callback; },
    async request(type, payload) {
      host.requests.push({ type, ...payload });
      if (delay) await new Promise((resolve) => setTimeout(resolve, delay));
      if (kind === "never") return new Promise(() => {});
      if (type === "picture") return { image: pictureOf(rowOf.get(payload.id)) };
      if (kind === "error") throw new Error("Occlusion needs the pictures, and 'holiday/<b>1</b>.jpg' is not on this machine any more.");
      return evidenceFor(payload);
    },
  };

  function pictureOf(row) {
    if (fixture.pictures) return new Blob([fromBase64(fixture.pictures[row % fixture.pictures.length])]);
    return thumbnails ? new Blob([thumbnails.slice(offsets[row], offsets[row + 1])]) : null;
  }

  function mapFor(a, b, cells, signed) {
    const map = new Float32Array(cells * cells), x0 = 1.5 + ((a * 7 + b) % 4), y0 = 1.5 + ((a + b * 3) % 4);
    for (let r = 0; r < cells; r++) {
      for (let c = 0; c < cells; c++) {
        const near = Math.exp(-((c - x0) ** 2 + (r - y0) ** 2) / 3), far = Math.exp(-((c - cells + x0) ** 2 + (r - y0) ** 2) / 4);
        map[r * cells + c] = signed ? 0.03 * near - 0.02 * far : 0.002 + 0.032 * near;
      }
    }
    return map;
  }

  function evidenceFor({ query, neighbors, method }) {
    const q = rowOf.get(query), signed = kind === "signed", cells = Number(options.cells ?? 7);
    const pairs = neighbors.map((id, i) => ({
      id, similarity: data.similarities[q * data.k + i],
      rows_a: cells, cols_a: cells, map_a: mapFor(q, rowOf.get(id), cells, signed),
      rows_b: cells, cols_b: cells, map_b: mapFor(rowOf.get(id), q, cells, signed),
      seen: pictureOf(rowOf.get(id)),
    }));
    return {
      method: method ?? "contribution", title: method === "occlusion" ? "Occlusion" : "Contribution", unit: "points of cosine", signed, limit: 0.034,
      reason: "exact here: the vector is a mean over positions", measured: null, layer: "features.18", query_seen: pictureOf(q), pairs,
    };
  }

  return host;
};
