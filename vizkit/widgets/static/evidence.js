// One picture with its evidence map over it, and the color bar that belongs to all of them.

import { cssColor, containRect, sizeCanvas } from "./elements.js";
import { evidenceColors, evidenceTable, formatNumber, niceTicks } from "./colors.js";

/** @typedef {{map: Float32Array, rows: number, cols: number, signed: boolean, limit: number}} Evidence */

const GRID_FROM = 5; // CSS pixels a cell must have before its lines are drawn

/**
 * Draw a picture, and over it the map on its own grid: cells are copied, never smoothed.
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
  drawGrid(context, place, evidence, opacity);
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
  const low = signed ? -limit : 0, table = evidenceTable(signed);
  const across = (v) => edge + ((v - low) / (limit - low || 1)) * inner;
  for (let i = 0; i < inner; i++) {
    const share = i / (inner - 1), size = signed ? Math.abs(2 * share - 1) : share, at = 3 * Math.round(share * 255);
    context.fillStyle = "#b4b4b4";
    context.fillRect(edge + i, 3, 1, barHeight);
    context.fillStyle = cssColor([table[at], table[at + 1], table[at + 2]], opacity * size);
    context.fillRect(edge + i, 3, 1, barHeight);
  }
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
