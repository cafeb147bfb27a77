// What a user does while others do something too: the kernel's order holds in every view.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createJupyterHost } from "../../vizkit/widgets/static/jupyter.js";

/** A kernel that a view's acts reach late, and two views of it, as the kernel's messages say. */
function linked() {
  const views = {}, queue = [];
  let query = null;
  const tell = (message) => { for (const { hear } of Object.values(views)) hear(message, []); };
  for (const name of ["a", "b"]) {
    const model = { get: () => undefined, on(_, hear) { views[name].hear = hear; }, off() {}, send: (content) => { if (content.type === "query") queue.push(content); } };
    const view = views[name] = { shows: null };
    view.host = createJupyterHost(model, name);
    view.host.onState((state) => { if (state.query !== undefined) view.shows = state.query; });
    view.click = (id) => { view.shows = id; view.host.send({ type: "query", id }); };
  }
  const set = (id, origin) => { if (id !== query) { query = id; tell({ type: "state", origin, query }); } };
  return {
    views, tell,
    python: (id) => set(id, null),
    work(refused) {
      const { view, act, id } = queue.shift();
      if (!refused) set(id, view);
      tell({ type: "state", view, act, ...(query === id ? {} : { query }) });
    },
    shown: () => [query, views.a.shows, views.b.shows],
  };
}

test("a click that is under way when the notebook sets something else wins in every view, since the kernel hears it last", () => {
  const { views, python, work, shown } = linked();
  views.a.click("p1");
  python("p2");
  assert.deepEqual(shown(), ["p2", "p1", "p2"]);
  work();
  assert.deepEqual(shown(), ["p1", "p1", "p1"]);
  python("p3");
  assert.deepEqual(shown(), ["p3", "p3", "p3"]);
});

test("clicks in two views at once end at the same image, and a fast hand is not thrown back by what is heard of its first click", () => {
  const { views, work, shown } = linked();
  views.a.click("p1");
  views.b.click("p2");
  views.a.click("p3");
  work();
  assert.deepEqual(shown(), ["p1", "p3", "p2"]);
  work();
  assert.deepEqual(shown(), ["p2", "p3", "p2"]);
  work();
  assert.deepEqual(shown(), ["p3", "p3", "p3"]);
});

test("a click that the kernel refuses, or that changes nothing there, leaves no view apart", () => {
  const { views, python, work, shown } = linked();
  python("p2");
  views.a.click("gone");
  work(true);
  assert.deepEqual(shown(), ["p2", "p2", "p2"]);
  views.a.click("p5");
  python("p5");
  work();
  python("p6");
  assert.deepEqual(shown(), ["p6", "p6", "p6"]);
});

test("what is told to one view, another does not hear: where things stand, and maps", () => {
  const { views, tell } = linked(), maps = [];
  for (const name of ["a", "b"]) views[name].host.onMap(({ map }) => maps.push([name, map]));
  tell({ type: "state", view: "b", query: "p4" });
  tell({ type: "map", view: "b", map: 1, done: 0.5 });
  tell({ type: "map", view: null, map: 0, done: 0.5 });
  assert.deepEqual([views.a.shows, views.b.shows], [null, "p4"]);
  assert.deepEqual(maps, [["b", 1], ["a", 0], ["b", 0]]);
});

test("every view hears that a method was measured", () => {
  const { views, tell } = linked();
  let heard = 0;
  for (const { host } of Object.values(views)) host.onMeasured(() => { heard += 1; });
  tell({ type: "measured" });
  assert.equal(heard, 2);
});

test("acts about different things do not wait for each other", () => {
  const { views, tell } = linked(), shown = [];
  views.a.host.onState((state) => shown.push(state));
  views.a.host.send({ type: "select", rows: Uint32Array.of(1) });
  tell({ type: "state", origin: null, query: "p1" });
  tell({ type: "state", view: "a", act: 1 });
  assert.deepEqual(shown, [{ query: "p1", shown: undefined, selection: undefined }]);
});
