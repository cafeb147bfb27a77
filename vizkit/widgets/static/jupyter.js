// Thin adapter to Jupyter: traits become data, events and questions become messages of their own. Nothing the user does
// travels as a trait, because traits may be merged on their way and events must not be.

import { createExplorer } from "./core.js";
import { alignedBytes, keepSame, readData, readGuest, readPart, readReply } from "./wire.js";

const DATA_TRAITS = ["ids", "_maps", "_graphs", "_columns", "_thumbnails", "_offsets", "_coming", "_k", "_info"];

// What the user does to what several views share, by the trait it changes.
const ACTS = { query: "query", select: "selection", show: "shown" };

/** @param {any} model an anywidget model @param {string} view this view's own name @returns {import("./core.js").Host & {stop: () => void}} */
export function createJupyterHost(model, view) {
  const open = new Map(), acting = new Map(); // questions by serial; by trait the number of the view's last act that the kernel has not heard
  let serial = 0, acts = 0, tellState = () => {}, tellProblem = () => {}, tellMap = () => {}, tellPictures = () => {}, tellGuest = () => {}, tellMeasured = () => {};

  /** The kernel's order holds: what others did before it heard of an act that is under way is past already, and an answer to an older act too. */
  function onState(message, buffers) {
    if (message.act !== undefined) for (const [trait, act] of acting) if (act === message.act) acting.delete(trait);
    // Only what changed is in a state: the rest may have moved on in the browser meanwhile.
    const state = { query: message.query, shown: message.shown, selection: buffers?.length ? new Uint32Array(alignedBytes(buffers[0])) : undefined };
    for (const trait of acting.keys()) state[trait] = undefined;
    if (Object.values(state).some((value) => value !== undefined)) tellState(state);
  }

  function onMessage(message, buffers) {
    if (message.view && message.view !== view) return;
    if (message.type === "state") {
      if (message.origin !== view) onState(message, buffers);
    } else if (message.type === "map") {
      tellMap({ map: message.map ?? 0, done: message.done, xy: buffers?.length ? new Float32Array(alignedBytes(buffers[0])) : null });
    } else if (message.type === "thumbnails") {
      tellPictures(readPart(message, buffers));
    } else if (message.type === "guest") {
      tellGuest(readGuest(message, buffers ?? []));
    } else if (message.type === "measured") {
      tellMeasured();
    } else if (message.type === "problem") {
      tellProblem(message.error);
    } else if (message.type === "reply" && !message.ok && !Number.isInteger(message.serial)) {
      tellProblem(message.error);
    } else if (message.type === "reply" && open.has(message.serial)) {
      const { name, resolve, reject } = open.get(message.serial);
      open.delete(message.serial);
      try {
        if (!message.ok) throw new Error(message.error || "The kernel could not answer, and did not say why.");
        resolve(readReply(name, message, buffers ?? []));
      } catch (error) {
        reject(error);
      }
    }
  }
  model.on("msg:custom", onMessage);

  return {
    data: readData(model),
    send(event) {
      const trait = ACTS[event.type], act = trait && acts + 1;
      // The buffer is a copy of its own: JupyterLab sends the whole of what lies under a typed array.
      if (event.type === "select") model.send({ type: "select", view, act }, undefined, [event.rows.slice().buffer]);
      else model.send(trait ? { ...event, view, act } : { ...event, view });
      if (!trait) return;
      acts = act;
      acting.set(trait, act);
    },
    request(name, payload, files = []) {
      return new Promise((resolve, reject) => {
        serial += 1;
        open.set(serial, { name, resolve, reject });
        try {
          model.send({ ...payload, type: "request", view, serial, name }, undefined, files);
        } catch {
          open.delete(serial);
          reject(new Error("The kernel is not answering: it was restarted or is gone. Map, hover and neighbors keep working; run the cell again to get the rest back."));
        }
      });
    },
    onState(callback) {
      tellState = callback;
      model.send({ type: "ready", view });
    },
    onMap(callback) { tellMap = callback; },
    onPictures(callback) { tellPictures = callback; },
    onGuest(callback) { tellGuest = callback; },
    onMeasured(callback) { tellMeasured = callback; },
    onProblem(callback) { tellProblem = callback; },
    stop() { model.off("msg:custom", onMessage); },
  };
}

/**
 * Keep JupyterLab from taking keys for its commands ("d", "d" would delete the cell) while one of our elements has the focus.
 * It listens at the document and asks the focused element itself, so the mark is set just before; with Ctrl or Cmd, as in
 * saving, the key stays JupyterLab's.
 */
export function keepKeys(el) {
  const guard = (event) => {
    if (el.contains(event.target)) event.target.toggleAttribute("data-lm-suppress-shortcuts", !(event.ctrlKey || event.metaKey));
  };
  window.addEventListener("keydown", guard, true);
  return () => window.removeEventListener("keydown", guard, true);
}

function render({ model, el }) {
  const view = globalThis.crypto?.randomUUID?.() ?? `view-${Date.now()}-${Math.random()}`;
  const host = createJupyterHost(model, view);
  const explorer = createExplorer(el, host), releaseKeys = keepKeys(el);
  // Several traits change together: one look at all of them is enough.
  let timer = 0, closed = false, last = host.data, thumbnails = model.get("_thumbnails");
  const onData = () => {
    if (timer) return;
    timer = setTimeout(() => {
      timer = 0;
      if (closed) return;
      const next = keepSame(readData(model), last);
      if (model.get("_thumbnails") === thumbnails) next.thumbnails = last.thumbnails;
      thumbnails = model.get("_thumbnails");
      last = next;
      explorer.setData(next);
    }, 0);
  };
  for (const trait of DATA_TRAITS) model.on(`change:${trait}`, onData);
  return () => {
    closed = true;
    clearTimeout(timer);
    for (const trait of DATA_TRAITS) model.off(`change:${trait}`, onData);
    releaseKeys();
    host.stop();
    explorer.destroy();
  };
}

export default { render };
