// One picture with its evidence map over it, and the color bar that belongs to all of them.

import { containRect, sizeCanvas } from "./elements.js";
import { evidenceColors, formatNumber, niceTicks } from "./colors.js";

/** @typedef {{map: Float32Array, rows: number, cols: number, signed: boolean, limit: number}} Evidence */

const GRID_FROM = 5; // CSS pixels a cell must have before its lines are drawn
const LOOKED_AT = ":hover, :focus-visible";

/** @param {Blob | null} blob @returns {Promise<ImageBitmap | null>} what the network saw; null where it cannot be read */
export async function decodeSeen(blob) {
  return blob ? createImageBitmap(blob).catch(() => null) : null;
}

/**
 * Draw a picture, and over it the map on its own grid: cells are copied, never smoothed. The grid itself is drawn while it is looked at:
 * over many pictures at rest its lines look like seams.
 * @param {HTMLCanvasElement} canvas @param {number} size CSS pixels of its side
 * @param {ImageBitmap | null | undefined} image @param {Evidence | null} evidence @param {number} opacity in [0, 1]
 * @returns {[number, number, number, number] | null} the picture's place on the canvas
 */
export function drawPicture(canvas, size, image, evidence, opacity) {
  const context = sizeCanvas(canvas, size, size);
  delete canvas.dataset.overlay;
  if (!image) return null;
  const place = containRect(image, size, size), [x, y, w, h] = place;
  context.imageSmoothingQuality = "high";
  context.drawImage(image, x, y, w, h);
  if (!evidence) return place;
  // A paler picture lets the map's colors be told from the picture's own.
  context.globalCompositeOperation = "saturation";
  context.fillStyle = `rgba(128,128,128,${0.75 * opacity})`;
  context.fillRect(x, y, w, h);
  context.globalCompositeOperation = "source-over";
  const cells = document.createElement("canvas");
  cells.width = evidence.cols;
  cells.height = evidence.rows;
  const pixels = new ImageData(evidenceColors(evidence.map, evidence.signed, evidence.limit, opacity), evidence.cols, evidence.rows);
  cells.getContext("2d").putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(cells, x, y, w, h);
  context.imageSmoothingEnabled = true;
  if ((canvas.closest("button") ?? canvas).matches(LOOKED_AT)) drawGrid(context, place, evidence, opacity);
  canvas.dataset.overlay = "on";
  return place;
}

function drawGrid(context, [x, y, w, h], { rows, cols }, opacity) {
  if (w / cols < GRID_FROM || h / rows < GRID_FROM) return;
  context.beginPath();
  for (let c = 1; c < cols; c++) { context.moveTo(x + (c * w) / cols, y); context.lineTo(x + (c * w) / cols, y + h); }
  for (let r = 1; r < rows; r++) { context.moveTo(x, y + (r * h) / rows); context.lineTo(x + w, y + (r * h) / rows); }
  context.strokeStyle = `rgba(255,255,255,${0.28 * opacity})`;
  context.lineWidth = 0.5;
  context.stroke();
}

/**
 * Mark cells of a drawn picture. Every line has a dark edge, so that it is seen on any picture.
 * @param {[number, number, number, number]} place of the picture @param {{rows: number, cols: number}} grid
 * @param {{cell: number, kind: "patch" | "held" | "ring" | "strongest", label?: string}[]} marks patch: framed, held: framed thickly,
 *   ring: a mutual match, strongest: a dashed frame
 */
export function drawMarks(canvas, [x, y, w, h], { rows, cols }, marks) {
  const context = canvas.getContext("2d"), cw = w / cols, ch = h / rows;
  for (const { cell, kind, label } of marks) {
    const left = x + (cell % cols) * cw, top = y + Math.floor(cell / cols) * ch, middle = [left + cw / 2, top + ch / 2];
    const radius = Math.max(Math.min(cw, ch) / 2 - 1, label ? 7 : 4), outline = new Path2D();
    if (kind === "ring") outline.arc(...middle, radius, 0, 2 * Math.PI);
    else outline.rect(left + 1, top + 1, cw - 2, ch - 2);
    context.setLineDash(kind === "strongest" ? [3, 2] : []);
    for (const [color, width] of [["rgba(0,0,0,0.75)", 2.5], ["#fff", 0]]) {
      context.strokeStyle = color;
      context.lineWidth = (kind === "held" ? 3 : 1.75) + width;
      context.stroke(outline);
    }
    context.setLineDash([]);
    if (label) drawNumber(context, label, middle);
  }
}

function drawNumber(context, label, [x, y]) {
  context.beginPath();
  context.arc(x, y, 6.5, 0, 2 * Math.PI);
  context.fillStyle = "rgba(0,0,0,0.75)";
  context.fill();
  context.fillStyle = "#fff";
  context.font = "600 10px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(label, x, y + 0.5);
}

/** @returns {{row: number, col: number, value: number} | null} the cell under a pixel of a drawn picture */
export function cellAt(place, evidence, px, py) {
  if (!place || !evidence) return null;
  const col = Math.floor(((px - place[0]) / place[2]) * evidence.cols), row = Math.floor(((py - place[1]) / place[3]) * evidence.rows);
  if (col < 0 || row < 0 || col >= evidence.cols || row >= evidence.rows) return null;
  return { row, col, value: evidence.map[row * evidence.cols + col] };
}

/**
 * The color bar of all panels: the ramp as it is laid over a mid-gray picture, ticks, and a mark at a value.
 * @param {{signed: boolean, limit: number, opacity: number, ink: string, value: number | null}} bar
 */
export function drawEvidenceBar(canvas, width, { signed, limit, opacity, ink, value }) {
  const height = 28, barHeight = 9, edge = 4, inner = width - 2 * edge, context = sizeCanvas(canvas, width, height);
  const low = signed ? -limit : 0;
  const across = (v) => edge + ((v - low) / (limit - low || 1)) * inner;
  context.fillStyle = "#b4b4b4";
  context.fillRect(edge, 3, inner, barHeight);
  // One image, stretched: columns drawn one by one leave seams where a pixel of the page is no whole pixel of the screen.
  const colors = document.createElement("canvas");
  colors.width = 256;
  colors.height = 1;
  const steps = Float32Array.from({ length: 256 }, (_, i) => low + (i / 255) * (limit - low));
  colors.getContext("2d").putImageData(new ImageData(evidenceColors(steps, signed, limit, opacity), 256, 1), 0, 0);
  context.drawImage(colors, edge, 3, inner, barHeight);
  context.fillStyle = ink;
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "top";
  for (const tick of niceTicks(low, limit, 4)) {
    const text = formatNumber(tick), half = context.measureText(text).width / 2;
    context.fillRect(Math.round(across(tick)) - 0.5, 3 + barHeight, 1, 3);
    context.fillText(text, Math.min(Math.max(across(tick) - half, 0), width - 2 * half), 17);
  }
  if (value !== null && Number.isFinite(value)) {
    const x = Math.min(Math.max(across(value), edge), width - edge);
    context.beginPath();
    context.moveTo(x - 4, 0);
    context.lineTo(x + 4, 0);
    context.lineTo(x, 5);
    context.fill();
  }
}
