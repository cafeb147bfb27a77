// The explorer in a page of its own, without a kernel: data, and what was computed for chosen queries, lie in the page.

import { createExplorer } from "./core.js";
import { clipText } from "./elements.js";
import { readData, readGuest, readReply } from "./wire.js";

// What tells one question from another, as Python has written it.
const ASKED = {
  evidence: ({ graph, query }) => [graph, query],
  similarities: ({ graph, query }) => [graph, query],
  matches: ({ graph, query, neighbor }) => [graph, query, neighbor],
  change: ({ a, b }) => [Math.min(a, b), Math.max(a, b)],
};
const NAMED = 3; // of the images that have evidence, how many are told by name
const NOT_HERE = {
  evidence(graph, answers) {
    const ids = answers.filter(([[name, at], fields]) => name === "evidence" && at === graph && !fields.error).map(([[, , id]]) => `“${clipText(id, 40)}”`);
    const rest = ids.length - NAMED, which = ids.slice(0, NAMED).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
    return `This page holds no evidence for this image${which ? `, but for those chosen when it was written: ${which}` : ""}. Only the notebook can compute it.`;
  },
  matches: () => "This page holds no matching patches of this pair: only the notebook can compute them.",
};

/** What the page does not hold: nothing went wrong. @param {string} text */
const notHere = (text) => Object.assign(new Error(text), { quiet: true });

/** @param {string} text base64 @returns {Uint8Array} */
function fromBase64(text) {
  const characters = atob(text), bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}

/** @param {Uint8Array} bytes compressed by gzip @returns {Promise<Uint8Array>} */
async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** @typedef {{numbers: Uint8Array, pictures: Uint8Array}} Packed what references mean: see Packed in export.py */

/** @param {[kind: "bytes" | "numbers" | "i2", start: number, length: number, scale?: number]} reference @param {Packed} packed @returns {Uint8Array} */
function referred([kind, start, length, scale], packed) {
  const bytes = (kind === "bytes" ? packed.pictures : packed.numbers).subarray(start, start + length);
  if (kind !== "i2") return bytes;
  const half = length / 2, values = new Float32Array(half);
  for (let i = 0; i < half; i++) values[i] = (((bytes[half + i] << 24) >> 16) | bytes[i]) * scale;
  return new Uint8Array(values.buffer);
}

/** Put bytes in place of every reference. @param {any} value @param {Packed} packed @returns {any} */
export function unpack(value, packed) {
  if (Array.isArray(value)) return value.map((inner) => unpack(inner, packed));
  if (value === null || typeof value !== "object") return value;
  if (value.$) return referred(value.$, packed);
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, unpack(inner, packed)]));
}

/** @param {any} study what Python wrote @param {Packed} packed @returns {import("./core.js").Host} */
export function createPageHost({ traits, answers, guests, state }, packed) {
  const known = new Map(answers.map(([asked, ...answer]) => [JSON.stringify(asked), answer]));
  return {
    live: false,
    data: readData({ get: (name) => unpack(traits[name], packed) }),
    send() {},
    async request(name, question) {
      const found = known.get(JSON.stringify([name, ...(ASKED[name]?.(question) ?? [])]));
      if (!found) throw notHere(NOT_HERE[name]?.(question.graph, answers) ?? "Only the notebook can compute this: the page holds what was there when it was written.");
      const [fields, buffers] = found;
      if (fields.error) throw new Error(fields.error);
      if (name === "evidence" && question.method && question.method !== fields.method) {
        throw notHere(`For this image on this map the page holds ${fields.title}: choose that. Only the notebook can compute another method.`);
      }
      return readReply(name, fields, unpack(buffers, packed));
    },
    onGuest(callback) {
      for (const [message, picture] of guests) callback(readGuest(message, [unpack(picture, packed)]));
    },
    onState(callback) { callback({ ...state, selection: Uint32Array.from(state.selection) }); },
  };
}

/** Show the study that lies in the page. @param {HTMLElement} element */
async function openStudy(element) {
  try {
    const part = (name) => fromBase64(document.getElementById(`vizkit-${name}`).textContent);
    const [study, numbers] = await Promise.all([inflate(part("study")), inflate(part("numbers"))]);
    const host = createPageHost(JSON.parse(new TextDecoder().decode(study)), { numbers, pictures: part("pictures") });
    element.replaceChildren();
    createExplorer(element, host);
  } catch (error) {
    const old = typeof DecompressionStream === "undefined";
    element.textContent = old ? "This page needs a browser of 2023 or later." : `This page cannot be shown: ${error?.message || error}`;
    throw error;
  }
}

const place = globalThis.document?.getElementById("vizkit-explorer");
if (place && document.getElementById("vizkit-study")) openStudy(place);
