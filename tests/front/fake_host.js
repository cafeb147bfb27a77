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
  const whyNot = kind === "none" ? "No encoder: these vectors came without a network." : "";
  const space = ({ indices, similarities, randoms }) => ({
    indices: ints(indices), similarities: floats(similarities), randoms: floats(randoms), can_explain: kind !== "none", why_not: whyNot,
  });
  const data = {
    ids: fixture.ids,
    maps: [{ ...fixture, graph: 0 }, ...fixture.maps].map(({ name, title, note, graph, xy, kept }) => ({ name, title, note, graph, xy: floats(xy), kept: floats(kept) })),
    graphs: [{ indices: fixture.graph, ...fixture }, ...fixture.graphs].map(space),
    columns: fixture.columns.map((c) => (c.kind === "category" ? { ...c, codes: ints(c.codes) } : { ...c, values: c.kind === "text" ? c.values : floats(c.values) })),
    thumbnails, offsets,
    k: fixture.k,
    methods: [{ name: "contribution", title: "Contribution" }, { name: "occlusion", title: "Occlusion" }],
    has_pictures: Boolean(fixture.pictures),
    coming: false,
  };
  const rowOf = new Map(data.ids.map((id, row) => [id, row]));
  const host = {
    data, events: [], requests: [], callback: null, moving: null, guest: null,
    send(event) { host.events.push(event.type === "select" ? { type: "select", rows: Array.from(event.rows) } : event); },
    onState(callback) { host.callback = callback; },
    onMap(callback) { host.moving = callback; },
    onGuest(callback) { host.guest = callback; },
    onMeasured(callback) { host.measured = callback; },
    async request(type, payload, files = []) {
      host.requests.push({ type, ...payload });
      if (delay) await new Promise((resolve) => setTimeout(resolve, delay));
      if (kind === "never") return new Promise(() => {});
      if (type === "similarities") return { values: similarityTo(payload) };
      if (type === "change") return { text: "Neighbors change most among the rings.", values: Float32Array.from(data.ids, (_, row) => (row % 11) / 10) };
      if (type === "name") return nameSelection(payload.text);
      if (type === "place") return place(payload.file, files[0]);
      if (type === "picture") return { image: pictureOf(rowOf.get(payload.id)) };
      return makeFakeAnswer({ data, rowOf, pictureOf, options }, type, payload);
    },
  };

  function pictureOf(row) {
    if (fixture.pictures) return new Blob([fromBase64(fixture.pictures[row % fixture.pictures.length])]);
    return thumbnails ? new Blob([thumbnails.slice(offsets[row], offsets[row + 1])]) : null;
  }

  /** Falls with the distance on the first map that has this graph, as the fixture's neighbors do. */
  function similarityTo({ graph, query }) {
    const { xy } = data.maps.find((map) => map.graph === graph), q = rowOf.get(query) < data.ids.length ? rowOf.get(query) : 5;
    return Float32Array.from(data.ids, (_, row) => Math.exp(-Math.hypot(xy[2 * row] - xy[2 * q], xy[2 * row + 1] - xy[2 * q + 1])));
  }

  /** A guest beside row 5 of every map, with that row's neighbors; its picture is the file. */
  function place(file, bytes) {
    const near = (graph) => graph.indices.slice(5 * data.k, 6 * data.k), alike = (graph) => graph.similarities.slice(5 * data.k, 6 * data.k);
    host.guest({
      id: file, note: "More unusual than 97% of the images.", picture: new Uint8Array(bytes),
      maps: data.maps.map(({ xy }) => [xy[10] + 0.01, xy[11]]), graphs: data.graphs.map((graph) => ({ rows: near(graph), similarities: alike(graph) })),
    });
    rowOf.set(file, rowOf.size);
    host.callback({ query: file });
    return { id: file };
  }

  /** The name itself, but where a column has it. */
  function nameSelection(text) {
    if (text === "refused") throw new Error("This name is refused.");
    return { column: data.columns.some(({ name }) => name === text) ? `${text}_` : text };
  }

  return host;
};
