// What is drawn over the points, in 2D: the query, its neighbors, the hovered point with lines to its true neighbors, the lasso.

import { sizeCanvas } from "./elements.js";

/**
 * @param {HTMLCanvasElement} canvas
 * @param {{view: import("./geometry.js").View, at: (row: number) => [number, number], diameter: number, ink: string, paper: string,
 *   accent: string, query: number, neighbors: ArrayLike<number>, hover: number, hoverNeighbors: ArrayLike<number>,
 *   near: number, guestsFrom: number, rows: number, sideOf: (row: number) => number, shape: {kind: "box" | "lasso", path: number[]} | null}} scene
 *   `sideOf`: CSS pixels of the thumbnail that lies on a row's point, or 0; `near`: the row that is pointed at beside the map, or -1; rows from `guestsFrom` on are guests
 */
export function drawOverlay(canvas, scene) {
  const { view, at, diameter, ink, paper, accent, query, neighbors, hover, near } = scene;
  const context = sizeCanvas(canvas, view.width, view.height);
  context.lineJoin = "round";
  const ring = (row, radius, width, color) => {
    const [x, y] = at(row);
    if (!Number.isFinite(x)) return;
    const side = scene.sideOf(row), half = side / 2 + radius - diameter / 2;
    context.beginPath();
    if (side) context.roundRect(x - half, y - half, 2 * half, 2 * half, 3);
    else context.arc(x, y, radius, 0, 2 * Math.PI);
    context.lineWidth = width + 2;
    context.strokeStyle = paper;
    context.stroke();
    context.lineWidth = width;
    context.strokeStyle = color;
    context.stroke();
  };
  const spokes = (row, rows, color, alpha) => {
    const [x, y] = at(row);
    if (!Number.isFinite(x)) return;
    context.strokeStyle = color;
    context.globalAlpha = alpha;
    context.lineWidth = 1;
    context.beginPath();
    for (const other of rows) {
      if (other < 0) continue;
      const end = at(other);
      if (!Number.isFinite(end[0])) continue;
      context.moveTo(x, y);
      context.lineTo(...end);
    }
    context.stroke();
    context.globalAlpha = 1;
  };
  const diamond = (row, size) => {
    const [x, y] = at(row);
    if (!Number.isFinite(x)) return;
    context.beginPath();
    for (const [dx, dy] of [[0, -size], [size, 0], [0, size], [-size, 0]]) context.lineTo(x + dx, y + dy);
    context.closePath();
    context.fillStyle = accent;
    context.fill();
    context.lineWidth = 1.5;
    context.strokeStyle = paper;
    context.stroke();
  };
  const radius = diameter / 2;
  for (let row = scene.guestsFrom; row < scene.rows; row++) diamond(row, radius + 3);
  if (query >= 0) {
    spokes(query, neighbors, accent, 0.35);
    for (const row of neighbors) if (row >= 0) ring(row, radius + 2, row === near ? 2.5 : 1.25, accent);
  }
  if (near >= 0 && near !== query && !Array.prototype.includes.call(neighbors, near)) ring(near, radius + 2, 2.5, accent);
  if (hover >= 0) {
    spokes(hover, scene.hoverNeighbors, ink, 0.5);
    for (const row of scene.hoverNeighbors) if (row >= 0) ring(row, radius + 1, 1, ink);
    ring(hover, radius + 2.5, 2, ink);
  }
  if (query >= 0) {
    ring(query, radius + 5, 2.5, accent);
    ring(query, radius + 1, 1, accent);
  }
  if (scene.shape) drawShape(context, scene.shape, accent);
}

function drawShape(context, { kind, path }, color) {
  context.beginPath();
  if (kind === "box") context.rect(path[0], path[1], path[2] - path[0], path[3] - path[1]);
  else {
    for (let i = 0; i < path.length; i += 2) context.lineTo(path[i], path[i + 1]);
    context.closePath();
  }
  context.fillStyle = color;
  context.globalAlpha = 0.1;
  context.fill();
  context.globalAlpha = 1;
  context.strokeStyle = color;
  context.lineWidth = 1.25;
  context.setLineDash([4, 3]);
  context.stroke();
  context.setLineDash([]);
}
