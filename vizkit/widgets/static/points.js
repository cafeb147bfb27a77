// The points themselves: WebGL2 with shaders of our own; the processor where WebGL2 is missing, was lost, or is itself only
// software and there are many points.

import { shuffledRows } from "./geometry.js";
import { createRasterDrawer } from "./raster.js";

const CONTEXT_WAIT = 1500; // milliseconds a lost graphics context may take to come back
const SOFTWARE = /swiftshader|llvmpipe|softpipe|software|basic render/i;
const SOFTWARE_UNTIL = 5000; // points that WebGL in software draws as fast as a plain picture is drawn

const VERTEX = `#version 300 es
in vec2 from;
in vec2 to;
in vec4 color;
uniform vec2 center;
uniform vec2 scale;
uniform float mixed;
uniform float diameter;
out vec4 tint;
out float size;
void main() {
  vec2 at = mix(from, to, mixed);
  gl_Position = vec4((at - center) * scale, 0.0, 1.0);
  // A hidden point, or one without a position, is put outside the clip space.
  if (color.a == 0.0 || !(abs(at.x) < 1e30)) gl_Position = vec4(2.0, 2.0, 0.0, 1.0);
  gl_PointSize = diameter + 1.5;
  size = diameter + 1.5;
  tint = color;
}`;

const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 tint;
in float size;
out vec4 pixel;
void main() {
  float outside = length(gl_PointCoord - 0.5) * size - (size - 1.5) * 0.5;
  float cover = tint.a * clamp(0.75 - outside, 0.0, 1.0);
  if (cover <= 0.0) discard;
  pixel = vec4(tint.rgb * cover, cover);
}`;

/** @returns {number} diameter in CSS pixels: small for many points, growing slowly with the zoom */
export function pointDiameter(count, zoom) {
  return Math.min(Math.max(25 * Math.max(count, 1) ** -0.2, 2.6), 9) * Math.min(Math.max(zoom, 0.5) ** 0.3, 2.2);
}

/**
 * A layer of points in a container, as its first child.
 * @param {HTMLElement} container
 * @param {(message: string) => void} notify told once when drawing has to do without WebGL2
 * @param {() => void} redraw asked for after a lost graphics context has come back or was given up
 */
export function createPoints(container, notify, redraw) {
  let from = new Float32Array(0), to = from, colors = new Uint8Array(0), order = new Uint32Array(0);
  let canvas, drawer, giveUp = 0, closed = false, paper = [255, 255, 255], raster = false;

  function start(plain) {
    canvas?.remove();
    canvas = document.createElement("canvas");
    canvas.className = "vk-points";
    canvas.ariaHidden = "true";
    container.prepend(canvas);
    drawer = plain ? null : createWebglDrawer(canvas);
    if (!drawer && !plain) notify("WebGL2 is not available here, so the map is drawn without it: the same points, slower with many of them.");
    raster = !drawer;
    drawer ??= createRasterDrawer(canvas);
    canvas.dataset.drawer = drawer.kind;
    canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault(); // Without this the browser would not give the context back.
      if (closed || event.target !== canvas) return;
      drawer = null;
      giveUp = setTimeout(() => { start(true); upload(); redraw(); }, CONTEXT_WAIT);
    });
    canvas.addEventListener("webglcontextrestored", (event) => {
      if (closed || event.target !== canvas) return;
      clearTimeout(giveUp);
      drawer = createWebglDrawer(canvas);
      upload();
      redraw();
    });
  }

  function upload() {
    drawer?.positions(from, to, order);
    drawer?.colors(colors);
  }

  start(false);
  return {
    /** @param {Float32Array} begin where the points are now @param {Float32Array} end where they go */
    setPositions(begin, end) {
      from = begin;
      to = end;
      if (!raster && drawer?.software && end.length / 2 > SOFTWARE_UNTIL) {
        drawer.destroy();
        start(true);
        drawer.colors(colors);
      }
      if (order.length !== end.length / 2) order = shuffledRows(end.length / 2);
      drawer?.positions(from, to, order);
    },
    /** @param {Uint8Array} rgba 4n; opacity 0 hides a point */
    setColors(rgba) {
      colors = rgba;
      drawer?.colors(rgba);
    },
    /** @param {import("./geometry.js").View} view @param {number} mixed 0: start positions, 1: end positions */
    draw(view, mixed, diameter) {
      const ratio = window.devicePixelRatio || 1;
      const w = Math.max(1, Math.round(view.width * ratio)), h = Math.max(1, Math.round(view.height * ratio));
      if (canvas.width !== w || canvas.height !== h) {
        canvas.width = w;
        canvas.height = h;
      }
      drawer?.draw(view, mixed, diameter, ratio, paper);
    },
    /** @param {number[]} rgb the ground that points are blended with where they are not drawn by WebGL */
    setPaper(rgb) { paper = rgb; },
    destroy() {
      closed = true;
      clearTimeout(giveUp);
      drawer?.destroy();
      canvas.remove();
    },
  };
}

function createWebglDrawer(canvas) {
  const gl = canvas.getContext("webgl2", { antialias: false, alpha: true, premultipliedAlpha: true });
  if (!gl || gl.isContextLost()) return null;
  const program = linkProgram(gl);
  if (!program) return null;
  const place = (name) => gl.getUniformLocation(program, name);
  const uniforms = { center: place("center"), scale: place("scale"), mixed: place("mixed"), diameter: place("diameter") };
  const buffers = { from: gl.createBuffer(), to: gl.createBuffer(), color: gl.createBuffer(), order: gl.createBuffer() };
  const array = gl.createVertexArray();
  let count = 0;
  gl.bindVertexArray(array);
  for (const [name, size, type] of [["from", 2, gl.FLOAT], ["to", 2, gl.FLOAT], ["color", 4, gl.UNSIGNED_BYTE]]) {
    const at = gl.getAttribLocation(program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, size, type, type !== gl.FLOAT, 0, 0);
  }
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffers.order);
  gl.useProgram(program);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  const fill = (buffer, data) => { gl.bindBuffer(gl.ARRAY_BUFFER, buffer); gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW); };
  const naming = gl.getExtension("WEBGL_debug_renderer_info");
  return {
    kind: "webgl2",
    software: SOFTWARE.test(gl.getParameter(naming ? naming.UNMASKED_RENDERER_WEBGL : gl.RENDERER)),
    positions(from, to, order) {
      fill(buffers.from, from);
      fill(buffers.to, to);
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, order, gl.STATIC_DRAW);
      count = order.length;
    },
    colors(rgba) { fill(buffers.color, rgba); },
    draw(view, mixed, diameter, ratio) {
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      if (!count) return;
      gl.uniform2f(uniforms.center, view.x, view.y);
      gl.uniform2f(uniforms.scale, (2 * view.scale) / view.width, (2 * view.scale) / view.height);
      gl.uniform1f(uniforms.mixed, mixed);
      gl.uniform1f(uniforms.diameter, diameter * ratio);
      gl.drawElements(gl.POINTS, count, gl.UNSIGNED_INT, 0);
    },
    // Browsers keep 16 contexts a page: a closed view gives its own back at once.
    destroy() { gl.getExtension("WEBGL_lose_context")?.loseContext(); },
  };
}

function linkProgram(gl) {
  const program = gl.createProgram();
  for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  return gl.getProgramParameter(program, gl.LINK_STATUS) ? program : null;
}
