// Points drawn by the processor into a plain picture. Where there is no graphics card this is far faster than WebGL drawn
// in software: 100,000 points took 5 to 10 ms here against more than 120 ms (Chromium with SwiftShader, 2 cores).

const PHASES = 4; // places inside a pixel, along each side, that a point's center is rounded to

/**
 * The pixels that a disc covers, and how much of each, for every place its center may have inside a pixel.
 * @param {number} diameter in pixels
 * @returns {{reach: number, starts: Uint32Array, dx: Int16Array, dy: Int16Array, cover: Uint16Array}} cover in 1..256; those of
 *   place p stand from starts[p] to starts[p + 1]; none is farther than `reach` from the center's own pixel
 */
export function discStamps(diameter) {
  const radius = diameter / 2, reach = Math.ceil(radius + 1), starts = new Uint32Array(PHASES * PHASES + 1), dx = [], dy = [], cover = [];
  for (let phase = 0; phase < PHASES * PHASES; phase++) {
    const middleX = ((phase % PHASES) + 0.5) / PHASES, middleY = (Math.floor(phase / PHASES) + 0.5) / PHASES;
    for (let y = -reach; y <= reach; y++) {
      for (let x = -reach; x <= reach; x++) {
        const share = Math.round(256 * Math.min(Math.max(0.5 + radius - Math.hypot(x + 0.5 - middleX, y + 0.5 - middleY), 0), 1));
        if (share > 0) { dx.push(x); dy.push(y); cover.push(share); }
      }
    }
    starts[phase + 1] = cover.length;
  }
  return { reach, starts, dx: Int16Array.from(dx), dy: Int16Array.from(dy), cover: Uint16Array.from(cover) };
}

/**
 * Draw points over paper, in order.
 * @param {Int32Array} pixels width x height, each 0xAABBGGRR (signed: unsigned ones would be handled as doubles)
 * @param {{width: number, height: number, paper: number[], order: Uint32Array, rgba: Uint8Array,
 *   from: Float32Array, to: Float32Array, mixed: number, scale: number, offsetX: number, offsetY: number, diameter: number}} scene
 *   a position (x, y) lies at pixel (x * scale + offsetX, offsetY - y * scale)
 */
export function rasterPoints(pixels, scene) {
  const { width, height, paper, order, rgba, from, to, mixed, scale, offsetX, offsetY, diameter } = scene;
  const { reach, starts, dx, dy, cover } = discStamps(diameter), jumps = Int32Array.from(dx, (x, i) => dy[i] * width + x);
  pixels.fill(-16777216 | (paper[2] << 16) | (paper[1] << 8) | paper[0]);
  for (let k = 0; k < order.length; k++) {
    const row = order[k], opacity = rgba[4 * row + 3];
    if (opacity === 0) continue;
    const x = (from[2 * row] + (to[2 * row] - from[2 * row]) * mixed) * scale + offsetX;
    const y = offsetY - (from[2 * row + 1] + (to[2 * row + 1] - from[2 * row + 1]) * mixed) * scale;
    // Written so that a position that is no number is left out too.
    if (!(x > -reach && y > -reach && x < width + reach && y < height + reach)) continue;
    const column = Math.floor(x), line = Math.floor(y), at = line * width + column;
    const phase = Math.floor((y - line) * PHASES) * PHASES + Math.floor((x - column) * PHASES), end = starts[phase + 1];
    const whole = column >= reach && line >= reach && column < width - reach && line < height - reach;
    const strength = opacity + (opacity >> 7); // 0..256, so that full opacity is exact
    const red = rgba[4 * row] | (rgba[4 * row + 2] << 16), green = rgba[4 * row + 1] << 8;
    for (let i = starts[phase]; i < end; i++) {
      if (!whole && (column + dx[i] < 0 || column + dx[i] >= width || line + dy[i] < 0 || line + dy[i] >= height)) continue;
      const a = (cover[i] * strength) >> 8, b = 256 - a, place = at + jumps[i], under = pixels[place];
      // Red and blue share one product; no channel can run into its neighbor.
      pixels[place] = -16777216
        | (((Math.imul(red, a) + Math.imul(under & 0xff00ff, b)) >>> 8) & 0xff00ff)
        | (((Math.imul(green, a) + Math.imul(under & 0xff00, b)) >>> 8) & 0xff00);
    }
  }
}

/** @param {HTMLCanvasElement} canvas @returns a drawer like the WebGL one */
export function createRasterDrawer(canvas) {
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  let points = { from: new Float32Array(0), to: new Float32Array(0), order: new Uint32Array(0) }, rgba = new Uint8Array(0), image = null;
  return {
    kind: "canvas2d",
    positions(from, to, order) { points = { from, to, order }; },
    colors(next) { rgba = next; },
    draw(view, mixed, diameter, ratio, paper) {
      if (image?.width !== canvas.width || image?.height !== canvas.height) image = new ImageData(canvas.width, canvas.height);
      const scale = view.scale * ratio;
      rasterPoints(new Int32Array(image.data.buffer), {
        width: canvas.width, height: canvas.height, paper, ...points, rgba, mixed, scale, diameter: diameter * ratio,
        offsetX: canvas.width / 2 - view.x * scale, offsetY: canvas.height / 2 + view.y * scale,
      });
      context.putImageData(image, 0, 0);
    },
    destroy() {},
  };
}
