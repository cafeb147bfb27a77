// Small helpers to build elements. Text goes in as text nodes only: labels and file names come from anywhere.

/**
 * @param {string} tag @param {Record<string, any>} attributes `class`, `text`, `on` ({event: listener}), others as attributes;
 *   null, undefined and false leave an attribute out
 * @param {(Node | null)[]} children
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "text") element.textContent = value;
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter(Boolean));
  return element;
}

/** @param {unknown} text @returns {string} short enough to lay out; what is cut is marked */
export function clipText(text, length = 240) {
  const whole = String(text);
  if (whole.length <= length) return whole;
  // Cut between characters, never inside a surrogate pair.
  return `${Array.from(whole.slice(0, length + 1)).slice(0, -1).join("")}…`;
}

/** @returns {string} the beginning and the end, where paths and names differ */
export function clipMiddle(text, first = 32, last = 36) {
  const letters = Array.from(String(text));
  return letters.length <= first + last + 1 ? letters.join("") : `${letters.slice(0, first).join("")}…${letters.slice(-last).join("")}`;
}

/**
 * Size a canvas for the screen it is on and return its context, ready to draw in CSS pixels, cleared.
 * @param {HTMLCanvasElement} canvas
 */
export function sizeCanvas(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const w = Math.max(1, Math.round(width * ratio)), h = Math.max(1, Math.round(height * ratio));
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  // Drawn by the processor: few strokes on a large canvas, where the way to the graphics card and back costs more.
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** @param {CanvasImageSource & {width: number, height: number}} image @returns {[number, number, number, number]} x, y, w, h: all of it, as large as fits */
export function containRect(image, width, height) {
  const factor = Math.min(width / image.width, height / image.height);
  const w = image.width * factor, h = image.height * factor;
  return [(width - w) / 2, (height - h) / 2, w, h];
}

/** @param {number[]} rgb @returns {string} */
export function cssColor(rgb, alpha = 1) {
  return `rgba(${rgb.map((v) => Math.round(v)).join(",")},${alpha})`;
}
