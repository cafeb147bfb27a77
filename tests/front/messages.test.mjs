import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { createAnswers } from "../../vizkit/widgets/static/coloring.js";
import { SILENT, createInquiry, inParts } from "../../vizkit/widgets/static/inquiry.js";
import { createJupyterHost } from "../../vizkit/widgets/static/jupyter.js";
import { keepSame, readData } from "../../vizkit/widgets/static/wire.js";
import { progressText } from "../../vizkit/widgets/static/progress.js";
import { createPictures, RecentMap } from "../../vizkit/widgets/static/pictures.js";

const settled = () => new Promise((resolve) => setImmediate(resolve));

function fakeModel(traits = {}) {
  const listeners = {};
  return {
    sent: [],
    get: (name) => traits[name],
    on(name, callback) { (listeners[name] ??= []).push(callback); },
    off(name, callback) { listeners[name] = listeners[name].filter((c) => c !== callback); },
    send(content, _callbacks, buffers) { this.sent.push({ content, buffers }); },
    receive(message, buffers = []) { for (const callback of listeners["msg:custom"] ?? []) callback(message, buffers); },
    count: (name) => (listeners[name] ?? []).length,
  };
}

/** Bytes as Jupyter hands them over: a view at an odd place of a larger buffer. */
function odd(array) {
  const bytes = new Uint8Array(array.byteLength + 3);
  bytes.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), 3);
  return new DataView(bytes.buffer, 3);
}

function asking() {
  const questions = [], told = [];
  const inquiry = createInquiry((question) => new Promise((resolve, reject) => questions.push({ question, resolve, reject })), (answer) => told.push(answer.reply ?? answer.message ?? answer.status), 1000);
  return { inquiry, questions, told };
}

test("while one question is out only the newest waits, and stale answers are dropped", async () => {
  const { inquiry, questions, told } = asking();
  for (const question of ["a", "b", "c", "d"]) inquiry.ask(question);
  await settled();
  assert.deepEqual(questions.map((q) => q.question), ["a"]);
  questions[0].resolve("answer a");
  await settled();
  assert.deepEqual(questions.map((q) => q.question), ["a", "d"]);
  questions[1].resolve("answer d");
  await settled();
  assert.deepEqual(told, ["loading", "loading", "loading", "loading", "answer d"]);
  inquiry.destroy();
});

test("silence is told, does not hold up the next question, and a late answer is still welcome", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { inquiry, questions, told } = asking();
  inquiry.ask("a");
  await settled();
  mock.timers.tick(1001);
  assert.deepEqual(told, ["loading", "slow"]);
  questions[0].resolve("late a");
  await settled();
  assert.deepEqual(told, ["loading", "slow", "late a"]);
  inquiry.ask("b");
  await settled();
  mock.timers.tick(1001);
  inquiry.ask("c");
  await settled();
  assert.deepEqual(questions.map((q) => q.question), ["a", "b", "c"]);
  questions[1].resolve("late b");
  await settled();
  assert.equal(told.at(-1), "loading");
  inquiry.destroy();
  mock.timers.reset();
});

test("a slow method's evidence is shown as it arrives, on one scale, until a newer question comes", async () => {
  const asked = [];
  const request = async ({ query, neighbors, method }) => {
    asked.push(`${query}:${neighbors[0]}:${method}`);
    return { method: "occlusion", reason: query, limit: neighbors.length, signed: neighbors[0] === "y", pairs: [neighbors[0]], pending: neighbors.slice(1) };
  };
  const shown = [];
  const whole = await inParts(request)({ query: "q", neighbors: ["x", "y", "z"], method: null }, (reply) => shown.push([...reply.pairs]) > 0);
  assert.deepEqual(asked, ["q:x:null", "q:y:occlusion", "q:z:occlusion"]);
  assert.deepEqual(shown, [["x"], ["x", "y"]]);
  assert.deepEqual(whole, { method: "occlusion", reason: "q", limit: 3, signed: true, pairs: ["x", "y", "z"], pending: [] });
  asked.length = 0;
  await inParts(request)({ query: "q", neighbors: ["x", "y", "z"], method: null }, () => false);
  assert.deepEqual(asked, ["q:x:null"]);
});

test("parts count as signs of life, and stop when the question is no longer wanted", async () => {
  const told = [], shows = [];
  const inquiry = createInquiry((question, show) => new Promise(() => shows.push(show)), (answer) => told.push(answer.reply ?? answer.status));
  inquiry.ask("a");
  await settled();
  assert.equal(shows[0]("part of a"), true);
  inquiry.ask("b");
  assert.equal(shows[0]("more of a"), false);
  assert.deepEqual(told, ["loading", "part of a", "loading"]);
  inquiry.destroy();
});

test("a refusal is told with its words, and nothing after a drop", async () => {
  const { inquiry, questions, told } = asking();
  inquiry.ask("a");
  await settled();
  questions[0].reject(new Error("no such picture"));
  await settled();
  inquiry.ask("b");
  await settled();
  inquiry.drop();
  questions[1].resolve("answer b");
  await settled();
  assert.deepEqual(told, ["loading", "no such picture", "loading", "idle"]);
});

test("traits become arrays, whatever place their bytes have in a message", () => {
  const data = readData(fakeModel({
    ids: ["a", "b"], _k: 1,
    _maps: [{ name: "m", title: "T", note: "N", graph: 0, xy: odd(Float32Array.of(1, 2, 3, 4)), kept: odd(Float32Array.of(0.5, NaN)) }],
    _graphs: [{ indices: odd(Int32Array.of(1, 0)), similarities: odd(Float32Array.of(0.5, 0.5)), randoms: odd(Float32Array.of(0, 1)), can_explain: true, why_not: "" }],
    _columns: [
      { name: "label", kind: "category", categories: ["x"], codes: odd(Int32Array.of(0, -1)) }, { name: "v", kind: "number", values: odd(Float32Array.of(7, NaN)) },
      { name: "t", kind: "text", values: ["one", "two"] },
    ],
    _thumbnails: odd(Uint8Array.of(9, 8, 7)), _offsets: odd(Uint32Array.of(0, 3, 3)), _info: { methods: [{ name: "occlusion", title: "Occlusion" }] },
  }));
  const [map] = data.maps, [graph] = data.graphs;
  assert.deepEqual([map.name, map.title, map.note, map.graph, Array.from(map.xy), Array.from(map.kept)], ["m", "T", "N", 0, [1, 2, 3, 4], [0.5, NaN]]);
  assert.deepEqual([graph.indices, graph.similarities, graph.randoms].map((a) => Array.from(a)), [[1, 0], [0.5, 0.5], [0, 1]]);
  assert.deepEqual([graph.can_explain, graph.why_not, data.columns[2].values], [true, "", ["one", "two"]]);
  assert.deepEqual(Array.from(data.columns[0].codes), [0, -1]);
  assert.deepEqual(Array.from(data.columns[1].values), [7, NaN]);
  assert.deepEqual([Array.from(data.thumbnails), Array.from(data.offsets)], [[9, 8, 7], [0, 3, 3]]);
  assert.deepEqual([data.methods.length, data.has_pictures, data.coming], [1, false, false]);
});

test("what is decoded again and has not changed is the array of before, and what changed is not", () => {
  const model = (x, kept) => fakeModel({
    _maps: [{ name: "m", graph: 0, xy: odd(Float32Array.of(x, 2)), kept: odd(Float32Array.of(kept)) }, { name: "new", graph: 0, xy: odd(Float32Array.of(8, 9)) }].slice(0, x > 5 ? 2 : 1),
    _graphs: [{ indices: odd(Int32Array.of(-1)), similarities: odd(Float32Array.of(NaN)) }],
  });
  const before = readData(model(1, NaN)), next = keepSame(readData(model(6, NaN)), before);
  assert.equal(next.maps[0].kept, before.maps[0].kept);
  assert.equal(next.graphs[0].indices, before.graphs[0].indices);
  assert.equal(next.graphs[0].similarities, before.graphs[0].similarities);
  assert.deepEqual([Array.from(next.maps[0].xy), Array.from(next.maps[1].xy)], [[6, 2], [8, 9]]);
});

test("columns are decoded once, as long as their trait is the same", () => {
  const columns = [{ name: "v", kind: "number", values: odd(Float32Array.of(7, NaN)) }], traits = { ids: ["a", "b"], _columns: columns };
  const before = readData(fakeModel(traits)), next = readData(fakeModel({ ...traits, _coming: true })), others = readData(fakeModel({ ...traits, _columns: [...columns] }));
  assert.equal(next.columns[0], before.columns[0]);
  assert.notEqual(others.columns[0], before.columns[0]);
});

/** Questions that the test answers, and how often something changed. */
function asked() {
  const open = [], host = { changed: 0 };
  const answers = createAnswers((name, payload) => new Promise((resolve, reject) => open.push({ name, payload, resolve, reject })), () => { host.changed += 1; });
  return { answers, open, host };
}

test("silence ends the waiting for all similarities, they can be asked for again, and a late answer is still welcome", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { answers, open, host } = asked();
  assert.equal(answers.similarities(0, "q").waiting, true);
  mock.timers.tick(29000);
  assert.equal(answers.similarities(0, "q").waiting, true);
  mock.timers.tick(1001);
  assert.deepEqual(answers.similarities(0, "q"), { values: null, text: "", error: SILENT, waiting: false });
  assert.deepEqual([open.length, host.changed], [1, 1]);
  answers.forget(false);
  assert.equal(answers.similarities(0, "q").waiting, true);
  assert.equal(open.length, 2);
  open[0].resolve({ values: Float32Array.of(1) });
  await settled();
  assert.deepEqual(answers.similarities(0, "q"), { values: Float32Array.of(1), text: "", error: "", waiting: false });
  open[1].reject(new Error("too late"));
  await settled();
  assert.equal(answers.similarities(0, "q").error, "");
  mock.timers.reset();
});

test("which neighbors changed is asked for anew when one of the layouts is replaced, and the old answer is no longer taken", async () => {
  const { answers, open } = asked(), first = [Float32Array.of(1, 2), Float32Array.of(3, 4)], second = [Float32Array.of(5, 6), first[1]];
  answers.change(0, 1, first);
  answers.change(0, 1, [...first]);
  assert.equal(open.length, 1);
  answers.change(0, 1, second);
  assert.deepEqual(open.map(({ payload }) => payload), [{ a: 0, b: 1 }, { a: 0, b: 1 }]);
  open[0].resolve({ values: Float32Array.of(0.5), text: "old" });
  open[1].resolve({ values: Float32Array.of(0.25), text: "new" });
  await settled();
  assert.equal(answers.change(0, 1, second).text, "new");
  answers.forget(true);
  assert.equal(answers.change(0, 1, second).waiting, true);
});

test("without traits there is data all the same", () => {
  const data = readData(fakeModel());
  assert.deepEqual([data.ids, data.maps, data.graphs, data.thumbnails, data.offsets, data.k], [[], [], [], null, null, 0]);
});

test("a thousand events are sent one by one, in order, each with bytes of its own", () => {
  const model = fakeModel(), host = createJupyterHost(model, "v1"), shared = Uint32Array.of(0, 0, 5, 6);
  host.onState(() => {});
  for (let i = 0; i < 1000; i++) host.send(i % 2 ? { type: "query", id: `id${i}` } : { type: "select", rows: shared.subarray(2) });
  assert.deepEqual(model.sent[0].content, { type: "ready", view: "v1" });
  assert.equal(model.sent.length, 1001);
  model.sent.slice(1).forEach(({ content, buffers }, i) => {
    if (i % 2) assert.deepEqual(content, { type: "query", view: "v1", act: i + 1, id: `id${i}` });
    else assert.deepEqual([content, Array.from(new Uint32Array(buffers[0]))], [{ type: "select", view: "v1", act: i + 1 }, [5, 6]]);
  });
});

test("a view hears every state but its own", () => {
  const model = fakeModel(), host = createJupyterHost(model, "v1"), states = [];
  host.onState((state) => states.push([state.query, Array.from(state.selection)]));
  model.receive({ type: "state", origin: "v1", query: "mine" }, [odd(Uint32Array.of(1))]);
  model.receive({ type: "state", origin: "v2", query: "other" }, [odd(Uint32Array.of(2, 3))]);
  model.receive({ type: "state", origin: null, query: null }, [odd(new Uint32Array(0))]);
  assert.deepEqual(states, [["other", [2, 3]], [null, []]]);
});

test("what a state leaves out is left as it is", () => {
  const model = fakeModel(), host = createJupyterHost(model, "v1"), states = [];
  host.onState((state) => states.push(state));
  model.receive({ type: "state", origin: null, query: "q" }, []);
  model.receive({ type: "state", origin: null }, [odd(Uint32Array.of(4))]);
  model.receive({ type: "state", origin: null, shown: [2, 0] }, []);
  assert.deepEqual(states, [{ query: "q", selection: undefined, shown: undefined }, { query: undefined, selection: Uint32Array.of(4), shown: undefined }, { query: undefined, selection: undefined, shown: [2, 0] }]);
});

test("an event that went wrong in the kernel is told, to the view it came from", () => {
  const model = fakeModel(), host = createJupyterHost(model, "v1"), problems = [];
  host.onProblem((text) => problems.push(text));
  model.receive({ type: "reply", view: "v1", serial: null, ok: false, error: "ValueError: an observer failed" }, []);
  model.receive({ type: "reply", view: "v2", serial: null, ok: false, error: "not mine" }, []);
  assert.deepEqual(problems, ["ValueError: an observer failed"]);
});

test("frames of a map that unfolds reach every view, with positions or without, and a stop is sent", () => {
  const model = fakeModel(), host = createJupyterHost(model, "v1"), told = [], problems = [];
  host.onMap(({ map, done, xy }) => told.push([map, done, xy && Array.from(xy)]));
  host.onProblem((text) => problems.push(text));
  model.receive({ type: "map", map: 0, done: 0 }, []);
  model.receive({ type: "map", map: 2, done: 0.5 }, [odd(Float32Array.of(1, 2, 3, 4))]);
  model.receive({ type: "map", map: 0, done: null }, []);
  model.receive({ type: "problem", error: "InputError: min_dist is 7" }, []);
  host.send({ type: "stop" });
  assert.deepEqual(told, [[0, 0, null], [2, 0.5, [1, 2, 3, 4]], [0, null, null]]);
  assert.deepEqual(problems, ["InputError: min_dist is 7"]);
  assert.deepEqual(model.sent.map((s) => s.content), [{ type: "stop", view: "v1" }]);
});

test("how far a map is, is rounded down, and never says 100% before the end", () => {
  assert.deepEqual([0, 0.004, 0.29, 0.4, 0.999, 1, 7].map((done) => progressText(done)), ["UMAP begins…", "UMAP 0%", "UMAP 29%", "UMAP 40%", "UMAP 99%", "UMAP 100%", "UMAP 100%"]);
  assert.deepEqual([progressText(0, "layer3"), progressText(0.5, "layer3")], ["layer3: UMAP begins…", "layer3: UMAP 50%"]);
});

test("a reply goes to its question only, with maps and pictures taken from the buffers in order", async () => {
  const model = fakeModel(), host = createJupyterHost(model, "v1");
  const evidence = host.request("evidence", { query: "q", neighbors: ["n"], method: null }), picture = host.request("picture", { id: "q" });
  assert.deepEqual(model.sent.map((s) => s.content), [
    { type: "request", view: "v1", serial: 1, name: "evidence", query: "q", neighbors: ["n"], method: null },
    { type: "request", view: "v1", serial: 2, name: "picture", id: "q" },
  ]);
  model.receive({ type: "reply", view: "v2", serial: 1, ok: true, pairs: [] }, []);
  model.receive({ type: "reply", view: "v1", serial: 2, ok: true }, [odd(Uint8Array.of(1, 2))]);
  model.receive(
    { type: "reply", view: "v1", serial: 1, ok: true, method: "contribution", unit: "u", signed: false, limit: 1, pairs: [{ id: "n", similarity: 0.5, shape_a: [1, 2], shape_b: [2, 1] }] },
    [odd(Uint8Array.of(7)), odd(Float32Array.of(0.1, 0.2)), odd(Float32Array.of(0.3, 0.4)), odd(Uint8Array.of(8, 9))],
  );
  const reply = await evidence, [pair] = reply.pairs;
  assert.deepEqual([reply.method, reply.unit, reply.limit], ["contribution", "u", 1]);
  assert.deepEqual([pair.rows_a, pair.cols_a, pair.rows_b, pair.cols_b], [1, 2, 2, 1]);
  assert.deepEqual([Array.from(pair.map_a), Array.from(pair.map_b)], [[0.1, 0.2], [0.3, 0.4]].map((m) => Array.from(Float32Array.from(m))));
  assert.deepEqual(Array.from(new Uint8Array(await reply.query_seen.arrayBuffer())), [7]);
  assert.deepEqual(Array.from(new Uint8Array(await pair.seen.arrayBuffer())), [8, 9]);
  assert.deepEqual(Array.from(new Uint8Array(await (await picture).image.arrayBuffer())), [1, 2]);
});

test("an error reply, a broken reply and a dead kernel are told in words", async () => {
  const model = fakeModel(), host = createJupyterHost(model, "v1");
  const refused = host.request("evidence", {}), broken = host.request("evidence", {});
  model.receive({ type: "reply", view: "v1", serial: 1, ok: false, error: "This network has no such layer." }, []);
  model.receive({ type: "reply", view: "v1", serial: 2, ok: true }, []);
  await assert.rejects(refused, /This network has no such layer\./);
  await assert.rejects(broken);
  model.send = () => { throw new Error("Kernel is dead"); };
  await assert.rejects(host.request("picture", { id: "a" }), /kernel is not answering/);
});

test("a stopped host listens no more", () => {
  const model = fakeModel(), host = createJupyterHost(model, "v1");
  assert.equal(model.count("msg:custom"), 1);
  host.stop();
  assert.equal(model.count("msg:custom"), 0);
});

test("what was used longest ago is forgotten first", () => {
  const recent = new RecentMap(2);
  recent.set("a", 1);
  recent.set("b", 2);
  recent.get("a");
  recent.set("c", 3);
  assert.deepEqual([recent.get("a"), recent.get("b"), recent.get("c")], [1, undefined, 3]);
});

const told = (part) => ({ done: 0.5, rows: Uint32Array.of(...part.map(([row]) => row)), offsets: Uint32Array.of(0, ...part.map((_, i) => part.slice(0, i + 1).reduce((sum, [, file]) => sum + file.length, 0))), files: Uint8Array.from(part.flatMap(([, file]) => file)) });

/** A store whose pictures "decode" to their bytes; `seen` fills as promises are kept. */
function storing(data) {
  const decodings = [], seen = {};
  globalThis.createImageBitmap = async (blob) => { const bytes = Array.from(new Uint8Array(await blob.arrayBuffer())); decodings.push(bytes); return bytes; };
  const pictures = createPictures({ ids: ["a", "b", "c", "d"], thumbnails: null, offsets: null, has_pictures: true, coming: true, ...data }, async () => ({ image: new Blob([Uint8Array.of(99)]) }));
  return { pictures, decodings, seen, ask: (row) => pictures.thumbnail(row).then((picture) => { seen[row] = picture; }) };
}
const decoded = () => new Promise((resolve) => setTimeout(resolve, 20));

test("a thumbnail that is asked for before it is made comes when it is made, once, and an empty one says there is none", async () => {
  const { pictures, decodings, seen, ask } = storing();
  for (const row of [2, 2, 0, 1]) ask(row);
  await decoded();
  assert.deepEqual([seen, pictures.isComing(2), pictures.has(2), pictures.peek(2)], [{}, true, false, undefined]);
  pictures.add(told([[3, [7]], [2, [8, 9]], [0, []]]));
  await decoded();
  assert.deepEqual([seen, decodings], [{ 2: [8, 9], 0: null }, [[8, 9]]]);
  assert.deepEqual([0, 1, 2, 3].map(pictures.has), [false, false, true, true]);
  assert.deepEqual([0, 1, 2, 3].map(pictures.isComing), [false, true, false, false]);
  assert.deepEqual([pictures.peek(2), await pictures.thumbnail(3), await pictures.sharp(1)], [[8, 9], [7], [99]]);
});

test("when no more thumbnails come, the traits have them all, and who still waits hears so", async () => {
  const { pictures, decodings, seen, ask } = storing();
  ask(1);
  ask(3);
  pictures.add(told([[2, [5]]]));
  const kept = pictures.thumbnail(2);
  pictures.setData({ ids: ["a", "b", "c", "d"], thumbnails: Uint8Array.of(4, 5, 6), offsets: Uint32Array.of(0, 0, 1, 2, 2), has_pictures: true, coming: false });
  await decoded();
  assert.deepEqual([seen, pictures.isComing(3), decodings], [{ 1: [4], 3: null }, false, [[5], [4]]]);
  assert.equal(pictures.thumbnail(2), kept);
});

test("parts reach every view, and what a new view is sent reaches that view alone", () => {
  const model = fakeModel({ _coming: true }), host = createJupyterHost(model, "v1"), parts = [];
  host.onPictures((part) => parts.push([part.done, Array.from(part.rows), Array.from(part.offsets), Array.from(part.files)]));
  const buffers = () => [odd(Uint32Array.of(4, 1)), odd(Uint32Array.of(0, 1, 3)), odd(Uint8Array.of(7, 8, 9))];
  model.receive({ type: "thumbnails", view: null, done: 0.25 }, buffers());
  model.receive({ type: "thumbnails", view: "v2", done: 0.5 }, buffers());
  model.receive({ type: "thumbnails", view: "v1", done: 0.75 }, buffers());
  assert.equal(host.data.coming, true);
  assert.deepEqual(parts, [0.25, 0.75].map((done) => [done, [4, 1], [0, 1, 3], [7, 8, 9]]));
});

test("a guest reaches every view, or the one it is sent to, with arrays and its picture", () => {
  const model = fakeModel(), host = createJupyterHost(model, "v1"), guests = [];
  host.onGuest((guest) => guests.push(guest));
  const message = { type: "guest", view: null, id: "cat.jpg", note: "rare", maps: [[1, 2], [3, 4]], graphs: [{ rows: [5, 6], similarities: [0.5, 0.25] }] };
  model.receive(message, [odd(Uint8Array.of(1, 2, 3))]);
  model.receive({ ...message, view: "v2" }, [odd(Uint8Array.of(1))]);
  model.receive({ ...message, view: "v1", id: "dog.jpg" }, [odd(Uint8Array.of(4))]);
  assert.deepEqual(guests.map((guest) => [guest.id, Array.from(guest.picture)]), [["cat.jpg", [1, 2, 3]], ["dog.jpg", [4]]]);
  const { note, maps, graphs: [graph] } = guests[0];
  assert.deepEqual([note, maps, Array.from(graph.rows), Array.from(graph.similarities)], ["rare", [[1, 2], [3, 4]], [5, 6], [0.5, 0.25]]);
});

test("the other questions bring their numbers and pictures back, and a file goes with its question", async () => {
  const model = fakeModel(), host = createJupyterHost(model, "v1"), file = Uint8Array.of(9, 9).buffer;
  const asked = [host.request("similarities", { graph: 1, query: "q" }), host.request("change", { a: 0, b: 1 }), host.request("matches", {}), host.request("contrast", {}), host.request("place", { file: "cat.jpg" }, [file])];
  assert.deepEqual(model.sent[4], { content: { type: "request", view: "v1", serial: 5, name: "place", file: "cat.jpg" }, buffers: [file] });
  const answer = (serial, fields, buffers) => model.receive({ type: "reply", view: "v1", serial, ok: true, ...fields }, buffers);
  answer(1, {}, [odd(Float32Array.of(0.5, -0.5))]);
  answer(2, { text: "little" }, [odd(Float32Array.of(0, 1))]);
  answer(3, { shape_a: [1, 2], shape_b: [2, 1], carried: 0.5 }, [odd(Float32Array.of(1, 2, 3, 4)), odd(Uint8Array.of(7)), odd(Uint8Array.of(8))]);
  answer(4, { panels: [{ name: "query", shape: [1, 2], residual: null }, { name: "near", shape: [1, 1], residual: 0.5 }] }, [odd(Float32Array.of(1, 2)), odd(Uint8Array.of(5)), odd(Float32Array.of(3)), odd(new Uint8Array(0))]);
  answer(5, { id: "cat.jpg (2)" }, []);
  const [similarities, change, matches, contrast, place] = await Promise.all(asked), bytes = async (blob) => Array.from(new Uint8Array(await blob.arrayBuffer()));
  assert.deepEqual([Array.from(similarities.values), change.text, Array.from(change.values)], [[0.5, -0.5], "little", [0, 1]]);
  assert.deepEqual([matches.rows_a, matches.cols_a, matches.rows_b, matches.cols_b, matches.carried, Array.from(matches.matrix)], [1, 2, 2, 1, 0.5, [1, 2, 3, 4]]);
  assert.deepEqual([await bytes(matches.seen_a), await bytes(matches.seen_b)], [[7], [8]]);
  assert.deepEqual(contrast.panels.map((p) => [p.name, p.rows, p.cols, p.residual, Array.from(p.map)]), [["query", 1, 2, null, [1, 2]], ["near", 1, 1, 0.5, [3]]]);
  assert.deepEqual([await bytes(contrast.panels[0].seen), contrast.panels[1].seen, place.id], [[5], null, "cat.jpg (2)"]);
});

test("a guest's picture is there at once, stays when the thumbnails come, and its sharper one is asked for by its name", async () => {
  const { pictures } = storing({ coming: true }), asked = [];
  pictures.addGuest(4, "cat.jpg", Uint8Array.of(6));
  pictures.addGuest(4, "cat.jpg", Uint8Array.of(7));
  assert.deepEqual([pictures.has(4), pictures.isComing(4), await pictures.thumbnail(4)], [true, false, [6]]);
  const other = createPictures({ ids: ["a"], thumbnails: null, offsets: null, has_pictures: true, coming: true }, async (id) => { asked.push(id); return { image: new Blob([Uint8Array.of(1)]) }; });
  other.addGuest(1, "cat.jpg", Uint8Array.of(6));
  await other.sharp(1);
  assert.deepEqual(asked, ["cat.jpg"]);
  other.setData({ ids: ["a"], thumbnails: Uint8Array.of(5), offsets: Uint32Array.of(0, 1), has_pictures: true, coming: false });
  assert.deepEqual([other.has(1), await other.thumbnail(1), await other.thumbnail(0)], [true, [6], [5]]);
});
