// The exported page reads its numbers as they were written, and answers what lies in it and nothing else.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createPageHost, unpack } from "../../vizkit/widgets/static/page.js";

const packed = {
  // The low bytes of -1, 1, 300, -300, 32767, -32767 and then the high ones, by hand.
  numbers: Uint8Array.from([9, 0xff, 0x01, 0x2c, 0xd4, 0xff, 0x01, 0xff, 0x00, 0x01, 0xfe, 0x7f, 0x80, 9]),
  pictures: Uint8Array.from([1, 2, 3, 4]),
};
const floats = (bytes) => [...new Float32Array(bytes.slice().buffer)];

test("numbers of two bytes are multiplied by their scale, whatever their sign", () => {
  assert.deepEqual(floats(unpack({ $: ["i2", 1, 12, 0.5] }, packed)), [-0.5, 0.5, 150, -150, 16383.5, -16383.5]);
  assert.deepEqual(floats(unpack({ $: ["i2", 1, 0, 1] }, packed)), []);
});

test("references are found at any depth, and all else stays as it is", () => {
  const found = unpack([{ a: { $: ["bytes", 1, 2] }, b: null, c: "text", __proto__: null }, 7], packed);
  assert.deepEqual([...found[0].a], [2, 3]);
  assert.equal(found[0].b, null);
  assert.deepEqual([found[0].c, found[1]], ["text", 7]);
  assert.deepEqual([...unpack({ $: ["numbers", 0, 2] }, packed)], [9, 0xff]);
});

const study = {
  traits: { ids: ["a", "constructor"] },
  answers: [
    [["similarities", 0, "constructor"], {}, [{ $: ["i2", 1, 12, 1] }]],
    [["change", 0, 2], { text: "half" }, [{ $: ["i2", 1, 12, 1] }]],
    [["evidence", 0, "a"], { error: "The file is gone." }, []],
    ...["p", "q", "r", "s", "t"].map((id) => [["evidence", 1, id], { method: "occlusion", title: "Occlusion", pairs: [] }, []]),
  ],
  guests: [], state: { query: "a", selection: [1], shown: [0] },
};

test("a page answers what it holds, of two maps in either order, and says what it does not hold", async () => {
  const host = createPageHost(study, packed);
  assert.deepEqual([...(await host.request("similarities", { graph: 0, query: "constructor" })).values], [-1, 1, 300, -300, 32767, -32767]);
  assert.equal((await host.request("change", { a: 2, b: 0 })).text, "half");
  await assert.rejects(host.request("evidence", { graph: 0, query: "a" }), /The file is gone/);
  await assert.rejects(host.request("evidence", { graph: 0, query: "constructor" }), /holds no evidence for this image/);
  await assert.rejects(host.request("matches", { graph: 0, query: "a", neighbor: "b" }), /no matching patches of this pair/);
  await assert.rejects(host.request("contrast", { graph: 0, query: "a", near: "b", far: "c" }), /Only the notebook/);
  await assert.rejects(host.request("place", {}), /Only the notebook/);
  assert.equal(host.live, false);
});

test("a page names images that have evidence on a map, and answers for no method but the one that it holds", async () => {
  const host = createPageHost(study, packed), quiet = (pattern) => (error) => error.quiet === true && pattern.test(error.message);
  await assert.rejects(host.request("evidence", { graph: 1, query: "a" }), quiet(/chosen when it was written: “p”, “q”, “r” and 2 more\. Only/));
  await assert.rejects(host.request("evidence", { graph: 0, query: "b" }), quiet(/for this image\. Only/));
  for (const method of [null, undefined, "occlusion"]) assert.equal((await host.request("evidence", { graph: 1, query: "p", method })).title, "Occlusion");
  await assert.rejects(host.request("evidence", { graph: 1, query: "p", method: "contribution" }), quiet(/the page holds Occlusion: choose that/));
  await assert.rejects(host.request("evidence", { graph: 0, query: "a" }), (error) => !error.quiet);
});

test("a page begins where the explorer was", () => {
  const heard = [];
  createPageHost(study, packed).onState((state) => heard.push(state));
  assert.deepEqual(heard, [{ query: "a", selection: Uint32Array.from([1]), shown: [0] }]);
});
