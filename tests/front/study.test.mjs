import assert from "node:assert/strict";
import { test } from "node:test";
import { createAnswers, createColoring, spanOf } from "../../vizkit/widgets/static/coloring.js";
import { createHistory } from "../../vizkit/widgets/static/history.js";
import { createRelations, percentileOf, timesNeighbor } from "../../vizkit/widgets/static/relations.js";

test("back and forward walk the queries as in a browser, and a new one gives up what lay ahead", () => {
  const history = createHistory();
  assert.deepEqual(history.state(), { back: false, forward: false, rows: [], at: -1 });
  for (const row of [5, 7, 7, 5]) history.visit(row);
  assert.deepEqual(history.state(), { back: true, forward: false, rows: [5, 7, 5], at: 2 });
  assert.deepEqual([history.back(), history.back(), history.back()], [7, 5, -1]);
  assert.deepEqual([history.forward(), history.state().at], [7, 1]);
  history.visit(9);
  assert.deepEqual(history.state(), { back: true, forward: false, rows: [5, 7, 9], at: 2 });
  assert.deepEqual([history.jump(0), history.jump(3), history.forward(), history.state().at], [5, -1, 7, 1]);
});

test("after no query at all, back returns to the last", () => {
  const history = createHistory();
  history.visit(3);
  history.leave();
  assert.deepEqual(history.state(), { back: true, forward: false, rows: [3], at: -1 });
  assert.equal(history.back(), 3);
  assert.deepEqual(history.state(), { back: false, forward: false, rows: [3], at: 0 });
  history.leave();
  history.visit(4);
  assert.deepEqual(history.state().rows, [3, 4]);
});

test("a long walk forgets its beginning, not where it is", () => {
  const history = createHistory();
  for (let row = 0; row < 500; row++) history.visit(row);
  const { rows, at } = history.state();
  assert.deepEqual([rows.length, rows[at], rows[0]], [200, 499, 300]);
});

test("the percentile of a similarity is the share of random pairs below it, in percent", () => {
  const pairs = Array.from({ length: 4001 }, (_, i) => Math.sin(i * 1.37) * 0.6 + 0.1 * Math.cos(i)).sort((a, b) => a - b);
  const quantiles = Float32Array.from({ length: 1001 }, (_, i) => pairs[4 * i]);
  for (const value of [-0.55, -0.2, 0.013, 0.4, 0.61]) {
    const counted = (100 * pairs.filter((pair) => pair < value).length) / pairs.length;
    assert.ok(Math.abs(percentileOf(quantiles, value) - counted) < 0.11, `${value}: ${percentileOf(quantiles, value)} ${counted}`);
  }
  assert.deepEqual([percentileOf(quantiles, -2), percentileOf(quantiles, 2)], [0, 100]);
  assert.deepEqual([percentileOf([], 0.5), percentileOf(quantiles, NaN)], [null, null]);
  assert.equal(percentileOf([0.5, 0.5, 0.5], 0.5), 0);
});

// Four images; row 3 is nobody's neighbor, and has one only.
const DATA = {
  ids: ["a", "b", "c", "d"], k: 2, columns: [{ name: "label", kind: "category", codes: Int32Array.of(0, 0, 1, 1), categories: ["x", "y"] }, { name: "path", kind: "text", values: ["1", "2", "3", "4"] }],
  maps: [{ name: "m", graph: 0, kept: Float32Array.of(0, 0.5, 1, NaN) }, { name: "n", graph: 0, kept: Float32Array.of(1, 1, 1, 1) }, { name: "o", graph: 1, kept: Float32Array.of(1, 1, 1, 1) }],
  graphs: [
    { indices: Int32Array.of(1, 2, 0, 2, 1, 0, 2, -1), similarities: Float32Array.of(0.75, 0.5, 0.75, 0.25, 0.25, 0.5, 0.125, 0), randoms: Float32Array.of(0, 0.5, 1) },
    { indices: Int32Array.of(3, 2, 3, 2, 3, 0, 2, 1), similarities: new Float32Array(8).fill(0.5), randoms: Float32Array.of() },
  ],
};
const GUEST = { id: "g", graphs: [{ rows: Int32Array.of(2), similarities: Float32Array.of(0.875) }, { rows: Int32Array.of(0), similarities: Float32Array.of(0.5) }] };

test("neighbors and similarities are those of the graph, for guests too, and known from either side", () => {
  const guests = [], relations = createRelations(DATA, guests);
  assert.deepEqual([Array.from(relations.near(0, 0).rows), Array.from(relations.near(3, 0).rows), Array.from(relations.near(3, 0).similarities)], [[1, 2], [2], [0.125]]);
  assert.deepEqual([relations.similarity(2, 3, 0), relations.similarity(3, 2, 0), relations.similarity(0, 3, 0), relations.similarity(1, 1, 0)], [0.125, 0.125, null, 1]);
  guests.push(GUEST);
  assert.deepEqual([relations.count(), relations.rowOf("g"), relations.idOf(4), relations.rowOf("d"), relations.rowOf("nobody")], [5, 4, "g", 3, -1]);
  assert.deepEqual([Array.from(relations.near(4, 1).rows), relations.similarity(2, 4, 0), relations.similarity(2, 4, 1)], [[0], 0.875, null]);
  assert.deepEqual(Array.from(timesNeighbor(DATA.graphs[0].indices, 4)), [2, 2, 3, 0]);
});

function coloring(shown, request) {
  const state = { told: 0 }, guests = [GUEST];
  state.coloring = createColoring(createAnswers(request ?? (async () => { throw new Error("no kernel"); }), () => { state.told += 1; state.coloring.refresh(); }));
  state.coloring.setData(DATA, createRelations(DATA, guests), shown);
  return state;
}
const settled = () => new Promise((resolve) => setImmediate(resolve));
const valuesOf = (state, place = 0) => Array.from(state.coloring.look(place).column.values);
const plain = { selection: new Set(), mask: null, hide: false, hidden: new Set(), emphasized: null };

test("the label colors at first, texts never do, and two maps offer what changed between them", () => {
  const one = coloring([0]).coloring, two = coloring([0, 2]).coloring;
  assert.deepEqual(one.choices(), { name: "label", columns: ["label"], computed: ["neighbors kept", "times a neighbor", "similarity to the query"] });
  assert.equal(two.choices().computed.at(-1), "neighbors changed");
  two.choose("neighbors changed");
  two.setData(DATA, createRelations(DATA, []), [0]);
  assert.equal(two.choices().name, "label");
});

test("neighbors kept are those of each map, how often one is a neighbor is on one scale, and a map of the same colors is painted once", () => {
  const state = coloring([0, 1]);
  state.coloring.choose("neighbors kept");
  assert.deepEqual([valuesOf(state, 0), valuesOf(state, 1)], [[0, 0.5, 1, NaN], [1, 1, 1, 1]]);
  const [first, second] = state.coloring.paint(plain);
  assert.deepEqual(Array.from(first.rgba.subarray(8, 11)), Array.from(second.rgba.subarray(8, 11)));
  assert.notDeepEqual(Array.from(first.rgba.subarray(0, 3)), Array.from(second.rgba.subarray(0, 3)));
  const spaces = coloring([0, 2]);
  spaces.coloring.choose("times a neighbor");
  assert.deepEqual([valuesOf(spaces, 0), valuesOf(spaces, 1)], [[2, 2, 3, 0], [1, 1, 3, 3]]);
  assert.deepEqual([spaces.coloring.look(0).scale.min, spaces.coloring.look(1).scale.max], [0, 3]);
  for (const name of ["label", "times a neighbor"]) {
    state.coloring.choose(name);
    const painted = state.coloring.paint(plain);
    assert.equal(painted[0], painted[1]);
    assert.equal(painted[0].rgba.length, 4 * 5);
  }
});

test("similarity to the query is asked for once; until then, and without a kernel, that of the neighbors is shown and said so", async () => {
  const asked = [], replies = [];
  const state = coloring([0], (name, payload) => { asked.push([name, payload]); return new Promise((resolve, reject) => replies.push({ resolve, reject })); });
  state.coloring.choose("similarity to the query");
  assert.match(state.coloring.note(), /Click a point/);
  state.coloring.setQuery(0);
  assert.deepEqual(valuesOf(state), [1, 0.75, 0.5, NaN]);
  state.coloring.refresh();
  assert.deepEqual(asked, [["similarities", { graph: 0, query: "a" }]]);
  replies[0].resolve({ values: Float32Array.of(1, 0.75, 0.5, -0.25) });
  await settled();
  assert.deepEqual([valuesOf(state), state.told, state.coloring.note()], [[1, 0.75, 0.5, -0.25], 1, ""]);
  assert.deepEqual([state.coloring.look().scale.min, state.coloring.look().scale.max], [-0.25, 1]);
  state.coloring.setQuery(4);
  replies[1].reject(new Error("The kernel is not answering."));
  await settled();
  assert.deepEqual([asked[1][1].query, valuesOf(state)], ["g", [NaN, NaN, 0.875, NaN]]);
  assert.match(state.coloring.note(), /neighbors only.*gray.*The kernel is not answering\./);
  state.coloring.choose("similarity to the query");
  assert.equal(asked.length, 3, "chosen again, it is asked again");
});

test("selection, search and legend dim or hide rows, and never a guest", () => {
  const { coloring: one } = coloring([0]), opacities = (how) => { const { rgba, shown } = one.paint({ ...plain, ...how })[0]; return [[0, 1, 2, 3, 4].map((row) => rgba[4 * row + 3]), shown && Array.from(shown)]; };
  const [[solid]] = opacities({}), faint = 45;
  assert.deepEqual(opacities({}), [[solid, solid, solid, solid, solid], null]);
  assert.deepEqual(opacities({ selection: new Set([1]) }), [[faint, solid, faint, faint, solid], null]);
  assert.deepEqual(opacities({ mask: Uint8Array.of(1, 0, 1, 0) }), [[solid, faint, solid, faint, solid], null]);
  assert.deepEqual(opacities({ mask: Uint8Array.of(1, 0, 1, 0), hide: true }), [[solid, 0, solid, 0, solid], [1, 0, 1, 0, 1]]);
  assert.deepEqual(opacities({ hidden: new Set([1]) }), [[solid, solid, 0, 0, solid], [1, 1, 0, 0, 1]]);
  assert.deepEqual(opacities({ emphasized: 0, mask: Uint8Array.of(1, 0, 1, 0), hide: true }), [[solid, 0, faint, 0, solid], [1, 0, 1, 0, 1]]);
});

test("a scale spans all numbers, and is one where there is nothing to span", () => {
  assert.deepEqual(spanOf([[3, NaN, -1], [7]]), [-1, 7]);
  assert.deepEqual([spanOf([[NaN]]), spanOf([[0.5, 0.5]]), spanOf([])], [[0, 1], [0, 1], [0, 1]]);
});
