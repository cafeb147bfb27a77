// Pointer, wheel and keyboard acts on the map surface, told in pixels of the surface. Each act is told exactly once.

const CLICK_SLOP = 4; // pixels the pointer may move between press and release of a click
const SCROLL_PAUSE = 250; // milliseconds after which a new turn of the wheel is meant for the map

/**
 * @param {HTMLElement} surface
 * @param {{hover: (x: number, y: number) => void, leave: () => void, click: (x: number, y: number) => void,
 *   pan: (dx: number, dy: number) => void, zoom: (x: number, y: number, factor: number) => void, reset: () => void,
 *   shape: (kind: "box" | "lasso", path: number[]) => void, selected: (kind: "box" | "lasso", path: number[], add: boolean) => void,
 *   cancel: () => void, key: (event: KeyboardEvent) => boolean}} act
 *   `path`: x0, y0, x1, y1, ...; `shape` while it grows, `selected` once at the end; `key` returns whether it used the key
 * @returns {{setMode: (mode: "pan" | "box" | "lasso") => void, destroy: () => void}}
 */
export function watchGestures(surface, act) {
  let mode = "pan", drag = null, lastScrollElsewhere = -Infinity;
  const stop = new AbortController();
  const listen = (target, name, listener, options = {}) => target.addEventListener(name, listener, { ...options, signal: stop.signal });

  function position(event) {
    const box = surface.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  listen(surface, "pointerdown", (event) => {
    if (event.button !== 0 || drag) return;
    const [x, y] = position(event);
    const kind = event.shiftKey ? "box" : event.altKey ? "lasso" : mode;
    drag = { id: event.pointerId, kind, moved: false, x, y, path: [x, y], add: event.ctrlKey || event.metaKey };
    surface.setPointerCapture(event.pointerId);
  });

  listen(surface, "pointermove", (event) => {
    const [x, y] = position(event);
    if (!drag) { act.hover(x, y); return; }
    if (event.pointerId !== drag.id) return;
    if (!drag.moved && Math.hypot(x - drag.path[0], y - drag.path[1]) < CLICK_SLOP) return;
    drag.moved = true;
    if (drag.kind === "pan") act.pan(x - drag.x, y - drag.y);
    else if (drag.kind === "box") { drag.path.splice(2, 2, x, y); act.shape("box", drag.path); }
    else { for (const part of steps(event)) drag.path.push(...position(part)); act.shape("lasso", drag.path); }
    drag.x = x;
    drag.y = y;
  });

  /** Positions between two frames belong to the lasso too: a fast stroke would lose its corners. */
  function steps(event) {
    const all = event.getCoalescedEvents?.() ?? [];
    return all.length ? all : [event];
  }

  listen(surface, "pointerup", (event) => {
    if (!drag || event.pointerId !== drag.id) return;
    const { kind, moved, path, add } = drag, [x, y] = position(event);
    drag = null;
    if (!moved) act.click(x, y);
    else if (kind === "box") act.selected("box", [path[0], path[1], x, y], add);
    else if (kind === "lasso") act.selected("lasso", [...path, x, y], add);
    if (moved) act.hover(x, y);
  });

  function cancelDrag() {
    if (!drag) return false;
    drag = null;
    act.cancel();
    return true;
  }
  listen(surface, "pointercancel", cancelDrag);
  listen(surface, "pointerleave", () => { if (!drag) act.leave(); });
  listen(surface, "dblclick", (event) => { event.preventDefault(); act.reset(); });

  // A page being scrolled passes over the map: only a turn that begins over the map zooms it.
  listen(window, "wheel", (event) => {
    if (!surface.contains(event.target)) lastScrollElsewhere = event.timeStamp;
  }, { passive: true, capture: true });
  listen(surface, "wheel", (event) => {
    if (event.timeStamp - lastScrollElsewhere < SCROLL_PAUSE) { lastScrollElsewhere = event.timeStamp; return; }
    event.preventDefault();
    const pixels = event.deltaY * [1, 16, 400][event.deltaMode];
    act.zoom(...position(event), Math.exp(-Math.min(Math.max(pixels, -240), 240) * (event.ctrlKey ? 0.01 : 0.002)));
  }, { passive: false });

  listen(surface, "keydown", (event) => {
    if (event.key === "Escape" && cancelDrag()) event.stopPropagation();
    else if (act.key(event)) { event.preventDefault(); event.stopPropagation(); }
  });

  return {
    setMode(next) { mode = next; },
    destroy() { stop.abort(); },
  };
}
