// The explorer in a page of its own, without a kernel: data and the evidence of chosen queries lie in the page.

import { createExplorer } from "./core.js";
import { readData, readReply } from "./wire.js";

/** @param {string} text base64 @returns {Uint8Array} */
function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** Turn every {"$bytes": base64} back into bytes. @param {any} value @returns {any} */
export function withBytes(value) {
  if (Array.isArray(value)) return value.map(withBytes);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.$bytes === "string") return fromBase64(value.$bytes);
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, withBytes(inner)]));
}

/** @param {any} study what Python wrote @returns {import("./core.js").Host} */
export function createPageHost(study) {
  const { traits, evidence, query, selection } = study;
  return {
    data: readData({ get: (name) => withBytes(traits[name]) }),
    send() {},
    async request(name, question) {
      const found = name === "evidence" ? evidence[question.query] : null;
      if (!found) throw new Error("This page holds no evidence for this image: only the notebook can compute it.");
      return readReply("evidence", found.fields, found.buffers.map(fromBase64));
    },
    onState(callback) { callback({ query, selection: Uint32Array.from(selection) }); },
  };
}

const place = globalThis.document?.getElementById("vizkit-study");
if (place) createExplorer(document.getElementById("vizkit-explorer"), createPageHost(JSON.parse(place.textContent)));
