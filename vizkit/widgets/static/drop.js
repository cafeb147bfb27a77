// An image from the user's disk: dropped on the map, or chosen by the button.

import { clipText, make } from "./elements.js";

const LARGEST = 8_000_000; // bytes: Jupyter closes the connection on messages of more than 10 MiB, and some travel as text that is a quarter longer

/** @param {{name: string, type: string, size: number}[]} files @returns {string} what is wrong with them, in words; empty where they can be taken */
export function refusal(files) {
  if (!files.length) return "That was not a file. Drop an image file, or choose one with Add image.";
  if (files.length > 1) return `One image at a time, please: these were ${files.length} files.`;
  const [{ name, type, size }] = files, called = `“${clipText(name, 80)}”`;
  if (type && !type.startsWith("image/")) return `${called} is not an image (${clipText(type, 60)}). Add a JPEG, PNG, WebP or another image.`;
  if (!size) return `${called} is empty, or a folder. Add an image file.`;
  if (size > LARGEST) return `${called} has ${(Math.ceil(size / 1e5) / 10).toFixed(1)} MB; ${(LARGEST / 1e6).toFixed(1)} MB are the most that a view can send. Make it smaller, or add it in the notebook by its path: explorer.add(path) takes larger ones.`;
  return "";
}

/**
 * @param {HTMLElement} surface files are dropped here
 * @param {{file: (name: string, bytes: ArrayBuffer) => void, problem: (text: string) => void}} told
 * @returns {{button: HTMLElement, destroy: () => void}} `button` holds its hidden field for files
 */
export function createDrop(surface, told) {
  const chooser = make("input", { type: "file", accept: "image/*", hidden: true, tabindex: -1, "aria-hidden": "true", on: { change: onChosen } });
  const button = make("span", { class: "vk-add" },
    make("button", { type: "button", class: "vk-button", "data-vizkit": "add-image", text: "Add image", title: "Find the neighbors of an image of yours; or drop it on the map", on: { click: () => chooser.click() } }), chooser);
  const sign = make("div", { class: "vk-drop-sign", hidden: true, "aria-hidden": "true" }, make("span", { text: "Drop the image to find its neighbors" }));
  const stop = new AbortController();
  let inside = 0; // entered and not left: an element inside is entered before the one around it is left
  surface.append(sign);

  const isFile = (event) => Array.from(event.dataTransfer?.types ?? []).includes("Files");

  function show(count) {
    inside = Math.max(count, 0);
    sign.hidden = inside === 0;
  }

  async function take(files) {
    const wrong = refusal(files);
    if (wrong) { told.problem(wrong); return; }
    try {
      told.file(files[0].name, await files[0].arrayBuffer());
    } catch (error) {
      told.problem(`“${clipText(files[0].name, 80)}” could not be read (${error?.message || error}). Is it still there?`);
    }
  }

  function onChosen() {
    const files = Array.from(chooser.files);
    chooser.value = ""; // or choosing the same file again would not be told
    if (files.length) take(files);
  }

  function listen(name, listener) {
    surface.addEventListener(name, (event) => {
      if (!isFile(event)) return;
      event.preventDefault(); // or the browser would open the file in place of the page
      event.stopPropagation();
      listener(event);
    }, { signal: stop.signal });
  }

  listen("dragenter", () => show(inside + 1));
  listen("dragleave", () => show(inside - 1));
  listen("dragover", (event) => { event.dataTransfer.dropEffect = "copy"; });
  listen("drop", (event) => { show(0); take(Array.from(event.dataTransfer.files)); });

  return {
    button,
    destroy() {
      stop.abort();
      sign.remove();
      button.remove();
    },
  };
}
