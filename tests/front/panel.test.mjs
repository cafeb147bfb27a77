import assert from "node:assert/strict";
import { test } from "node:test";
import { verdictOf, withoutFinding } from "../../vizkit/widgets/static/badge.js";
import { inStages } from "../../vizkit/widgets/static/inquiry.js";
import { percentileText, similarityWords } from "../../vizkit/widgets/static/tiles.js";

/** A kernel where contribution answers at once and names a better method, which answers for one neighbor at a time. */
function kernel({ fail = false } = {}) {
  const asked = [];
  return {
    asked,
    async request({ neighbors, method }) {
      asked.push(`${method}:${neighbors.length}`);
      if (method && fail && neighbors.length === 1) throw new Error("out of memory");
      const now = method ? neighbors.slice(0, 1) : neighbors;
      return { method: method ?? "contribution", reason: "r", limit: 1, signed: false, pairs: now, pending: neighbors.slice(now.length), better: method ? null : "occlusion" };
    },
  };
}

const QUESTION = { query: "q", neighbors: ["x", "y", "z"], method: null };

test("contribution is shown at once and stays until the better method is complete", async () => {
  const { asked, request } = kernel(), shown = [];
  const last = await inStages(request)(QUESTION, (reply) => shown.push([reply.method, reply.coming?.done]) > 0);
  assert.deepEqual(asked, ["null:3", "occlusion:3", "occlusion:2", "occlusion:1"]);
  assert.deepEqual(shown, [["contribution", 0], ["contribution", 1], ["contribution", 2]]);
  assert.deepEqual([last.method, last.pairs, last.coming], ["occlusion", ["x", "y", "z"], undefined]);
});

test("who named a method gets that one alone", async () => {
  const { asked, request } = kernel();
  await inStages(request)({ ...QUESTION, method: "contribution" }, () => true);
  assert.deepEqual(asked, ["contribution:3", "contribution:2", "contribution:1"]);
});

test("if the better method fails, contribution stays and the reason is told", async () => {
  const { request } = kernel({ fail: true });
  const last = await inStages(request)(QUESTION, () => true);
  assert.deepEqual([last.method, last.pairs, last.failed], ["contribution", ["x", "y", "z"], "out of memory"]);
});

test("a question that nobody wants any more asks for nothing further", async () => {
  for (const wanted of [0, 1, 2]) {
    const { asked, request } = kernel();
    let shows = 0;
    await inStages(request)(QUESTION, () => shows++ < wanted);
    assert.equal(asked.length, 1 + wanted);
  }
});

test("a percentile is never rounded up: not to all, not past a pair", () => {
  assert.deepEqual([99.96, 100, 99.94, 99.89, 50, 0, null, undefined, NaN].map(percentileText), [">99.9%", ">99.9%", "99.9%", "99.8%", "50.0%", "0.0%", "", "", ""]);
  assert.equal(similarityWords({ similarity: -0.5, percentile: 100 }), "cosine −0.500, above more than 99.9% of random pairs");
  assert.equal(similarityWords({ similarity: 0.5, percentile: null }), "cosine 0.500");
});

test("a verdict is a color and a word; what is not known is not measured", () => {
  for (const verdict of ["green", "amber", "red"]) assert.match(verdictOf({ verdict }).word.toLowerCase(), new RegExp(`^${verdict}: \\w`));
  for (const trust of [null, undefined, {}, { verdict: null }, { verdict: "toString" }]) assert.equal(verdictOf(trust).word, "Not measured");
});

test("why a method was taken is told without repeating what was found of it", () => {
  const found = "planted energy 0.34 (gain 0.04); insertion is not better";
  assert.equal(withoutFinding(`exact here: a mean over positions; amber: ${found}`, found), "exact here: a mean over positions");
  assert.equal(withoutFinding(`the best method that was found green on this network: ${found}`, found), "the best method that was found green on this network");
  assert.equal(withoutFinding("chosen by the caller", ""), "chosen by the caller");
});
