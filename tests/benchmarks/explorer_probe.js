// Looks at a plot from outside, the same way for every tool: which picture is on the screen, since when, how long a frame takes.
(() => {
  const CHIPS = [[230, 30, 30], [30, 200, 30], [40, 60, 240], [240, 220, 40]]; // as explorer_data.py draws them
  const scratch = Object.assign(document.createElement("canvas"), { width: 64, height: 64 }).getContext("2d", { willReadFrequently: true });
  const loaded = new Map(); // pictures of CSS backgrounds, by address

  /** The row that a picture carries, read from its pixels; null while it is not there. */
  function rowOf(source) {
    try {
      scratch.clearRect(0, 0, 64, 64);
      scratch.drawImage(source, 0, 0, 64, 64);
    } catch {
      return null;
    }
    const pixels = scratch.getImageData(0, 0, 64, 16).data;
    let row = 0;
    for (let digit = 0; digit < 16; digit++) {
      const at = 4 * (64 * (4 + 8 * Math.floor(digit / 8)) + 4 + 8 * (digit % 8));
      if (pixels[at + 3] < 200) return null;
      const off = CHIPS.map((chip) => chip.reduce((sum, value, i) => sum + Math.abs(value - pixels[at + i]), 0));
      const best = off.indexOf(Math.min(...off));
      if (off[best] > 150) return null;
      row += best * 4 ** digit;
    }
    return row;
  }

  function onScreen(element) {
    const box = element.getBoundingClientRect();
    return box.width > 8 && box.right > 0 && box.bottom > 0 && box.left < innerWidth && box.top < innerHeight
      && element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  }

  /** Which row is shown: a number, null where there is none, or a promise of one for a CSS background. */
  function shown(element) {
    if (!element || !onScreen(element)) return null;
    if (element instanceof HTMLCanvasElement) return rowOf(element);
    if (element instanceof HTMLImageElement) return element.complete && element.naturalWidth ? rowOf(element) : null;
    const address = getComputedStyle(element).backgroundImage.match(/^url\("(.*)"\)$/)?.[1];
    if (!address) return null;
    if (!loaded.has(address)) {
      const image = new Image();
      image.src = address;
      loaded.clear();
      loaded.set(address, image.decode().then(() => rowOf(image), () => null));
    }
    return loaded.get(address);
  }

  let moved = 0;
  for (const type of ["pointermove", "mousemove"]) {
    addEventListener(type, (event) => { if (!moved) moved = event.timeStamp; }, { capture: true });
  }

  const { port1, port2 } = new MessageChannel(), after = [];
  port2.onmessage = () => after.shift()();
  /** Call back once the frame that is being made now has been painted. */
  const afterPaint = (callback) => requestAnimationFrame(() => { after.push(callback); port1.postMessage(0); });

  window.probe = {
    bytes: { socket: 0 },
    /** Wait for the next move and then for one of the rows on the screen: {ms} since the move, or {saw}, the last one seen. */
    arm(find, rows, limit) {
      moved = 0;
      const wanted = new Set(rows), begun = performance.now();
      let saw = null;
      window.probe.result = new Promise((done) => {
        const look = async () => {
          const now = performance.now();
          if (moved) {
            const row = await shown(find());
            if (row !== null) saw = row;
            if (wanted.has(row)) { done({ ms: now - moved }); return; }
          }
          if (now - begun > limit) { done({ saw }); return; }
          afterPaint(look);
        };
        afterPaint(look);
      });
    },
    /** Take down the time between frames until `stopFrames`. */
    startFrames() {
      const times = [];
      let on = true, last = null;
      const tick = (now) => {
        if (last !== null) times.push(now - last);
        last = now;
        if (on) requestAnimationFrame(tick);
      };
      requestAnimationFrame(tick);
      window.probe.stopFrames = () => { on = false; return times; };
    },
  };

  // Whatever comes over a web socket is counted where it arrives: told to another process, it would slow down what is measured.
  const Socket = window.WebSocket;
  window.WebSocket = class extends Socket {
    constructor(...parts) {
      super(...parts);
      this.addEventListener("message", ({ data }) => {
        window.probe.bytes.socket += data.byteLength ?? data.size ?? new Blob([data]).size;
      });
    }
  };
})();
