// The stage: one map, or two side by side, with a switch for each; what is hovered, asked for and selected is the same on both.

import { clipText, make } from "./elements.js";
import { createMap } from "./map.js";

const KEYS = "Arrow keys move from image to image, Enter shows neighbors, plus and minus zoom, 0 shows all, Escape clears.";
const NOWHERE = [NaN, NaN];
const MOST_MARKED = 30; // neighbors, the nearest, that are ringed: more would cover the map

/**
 * @param {{hover: (row: number, place: number, byKey: boolean) => void, pick: (row: number) => void, select: (rows: Uint32Array, add: boolean) => void,
 *   clear: () => void, moved: () => void, notify: (text: string) => void, shown: (maps: number[]) => void,
 *   neighborsOf: (row: number, map: number) => Int32Array, thumbnail: (row: number) => Promise<ImageBitmap | null>,
 *   peek: (row: number) => ImageBitmap | undefined}} told `place`: 0, or 1 for the second of two; `shown`: the user chose maps
 */
export function createStage(told) {
  const element = make("div", { class: "vk-stage" });
  const pairing = make("button", {
    type: "button", class: "vk-button", "data-vizkit": "side-by-side", "aria-pressed": "false", text: "Side by side", title: "Two maps of the same images", hidden: true,
    on: { click: () => choose(shown.length > 1 ? shown.slice(0, 1) : [shown[0], (shown[0] + 1) % data.maps.length]) },
  });
  const frames = new Map(), moving = new Map(); // by map that unfolds: where its points are, and how far it is
  let data = { ids: [], maps: [] }, shown = [], panes = [], guests = [], theme = null, mode = "pan", marks = { query: -1, near: -1 };

  function createPane(place) {
    const select = make("select", { class: "vk-select", "data-vizkit": place ? "map-name-2" : "map-name", "aria-label": place ? "Second map" : "Map", on: { change: () => switchTo(place, select.selectedIndex) } });
    const title = make("span", { class: "vk-title", dir: "auto" }), note = make("span", { class: "vk-map-note vk-quiet", "data-vizkit": "map-note", dir: "auto" });
    const map = createMap({
      ...told,
      neighborsOf: (row) => told.neighborsOf(row, shown[place]).slice(0, MOST_MARKED),
      hover(row, byKey) {
        for (const other of panes) if (other.map !== map) other.map.setMarks({ linked: row });
        told.hover(row, place, byKey);
      },
    });
    map.surface.dataset.vizkit = place ? "map-2" : "map";
    map.setMode(mode);
    if (theme) map.setTheme(theme);
    const nothing = make("p", { class: "vk-nothing", text: "There are no images to show.", hidden: true });
    map.surface.append(nothing);
    const pane = { map, select, title, note, nothing, index: -1, element: make("section", { class: "vk-pane" }, make("header", { class: "vk-pane-head" }, select, title, note), map.surface) };
    element.append(pane.element);
    return pane;
  }

  function choose(maps) {
    show(maps);
    told.shown([...shown]);
  }

  /** The map of the other place is not shown twice: the two change places. */
  function switchTo(place, index) {
    const next = [...shown], other = next.indexOf(index);
    if (other >= 0) next[other] = next[place];
    next[place] = index;
    choose(next);
  }

  const positionsOf = (index) => frames.get(index) ?? data.maps[index].xy;

  /** Guests have a place on a map that stands; on one that moves they wait for theirs. */
  function guestsOn(index) {
    return Float32Array.from(guests.flatMap((guest) => (moving.has(index) ? NOWHERE : guest.maps[index] ?? NOWHERE)));
  }

  function describe() {
    const several = data.maps.length > 1;
    pairing.hidden = !several;
    pairing.setAttribute("aria-pressed", String(shown.length > 1));
    element.dataset.maps = String(shown.length);
    for (const { map, select, title, note, nothing, index, element: box } of panes) {
      const { name, title: words, note: found } = data.maps[index];
      select.hidden = !several;
      select.replaceChildren(...data.maps.map((one, i) => make("option", { value: String(i), text: clipText(one.name, 60) })));
      select.selectedIndex = index;
      title.textContent = clipText(words, 160);
      title.hidden = !words;
      note.textContent = clipText(found, 300);
      note.title = clipText(found, 300);
      box.setAttribute("aria-label", several ? `Map ${clipText(name, 60)}` : "Map");
      nothing.hidden = data.ids.length > 0;
      map.surface.setAttribute("aria-label", `Map ${several ? `${clipText(name, 60)} ` : ""}of ${data.ids.length} images. ${KEYS}`);
    }
  }

  function show(maps) {
    shown = maps;
    while (panes.length > maps.length) {
      const gone = panes.pop();
      gone.map.destroy();
      gone.element.remove();
      for (const { map } of panes) map.setMarks({ linked: -1 }); // what was hovered there
    }
    while (panes.length < maps.length) panes.push(createPane(panes.length));
    panes.forEach((pane, place) => {
      if (pane.index === maps[place]) return;
      pane.index = maps[place];
      pane.map.setPositions(positionsOf(pane.index), { anchor: marks.query, beside: guestsOn(pane.index) });
    });
    describe();
    setMarks({});
  }

  function setMarks(next) {
    marks = { ...marks, ...next };
    for (const { map, index } of panes) map.setMarks({ ...marks, neighbors: marks.query < 0 ? [] : told.neighborsOf(marks.query, index).slice(0, MOST_MARKED) });
  }

  const paneOf = (index) => panes.find((pane) => pane.index === index);

  return {
    element,
    pairing,
    show,
    setMarks,
    shown: () => shown,
    /** @param {import("./core.js").Data} next @param {boolean} sameImages as before */
    setData(next, sameImages) {
      const before = data;
      data = next;
      if (!sameImages) { frames.clear(); moving.clear(); guests = []; marks = { query: -1, near: -1 }; }
      const kept = shown.filter((index) => index < data.maps.length), first = kept.length ? kept : [0];
      data.maps.forEach(({ xy }, index) => {
        if (sameImages && xy === before.maps[index]?.xy) return;
        frames.delete(index);
        paneOf(index)?.map.setPositions(xy, { anchor: marks.query, beside: guestsOn(index) });
      });
      show(first);
    },
    /** One frame of a map that unfolds. @param {number | null} done null: it stands @param {Float32Array | null} xy null: as before */
    setFrame(index, done, xy) {
      const started = done !== null && !moving.has(index);
      if (done === null) moving.delete(index);
      else moving.set(index, done);
      if (xy) frames.set(index, xy);
      const pane = paneOf(index);
      if (xy) pane?.map.setPositions(xy, { anchor: marks.query, flowing: done !== null, beside: guestsOn(index) });
      else if (started && guests.length) pane?.map.setGuests(guestsOn(index));
    },
    /** @returns {{map: number, done: number} | null} the map whose progress is told: one that is seen, and one that has begun, before others */
    unfolding() {
      const all = [...shown.filter((map) => moving.has(map)), ...moving.keys()], map = all.find((one) => moving.get(one) > 0) ?? all[0];
      return map === undefined ? null : { map, done: moving.get(map) };
    },
    /** @param {{maps: number[][]}[]} all images beside those of the explorer: where they lie on each map */
    setGuests(all) {
      guests = all;
      for (const { map, index } of panes) map.setGuests(guestsOn(index));
    },
    /** @param {{rgba: Uint8Array, shown: Uint8Array | null}[]} painted one for each map that is shown */
    paint(painted) {
      panes.forEach(({ map }, place) => map.setColors(painted[place].rgba, painted[place].shown));
    },
    setTheme(next) {
      theme = next;
      for (const { map } of panes) map.setTheme(next);
    },
    setMode(next) {
      mode = next;
      for (const { map } of panes) map.setMode(next);
    },
    reset() { for (const { map } of panes) map.reset(); },
    /** @returns {[number, number]} pixels from the upper left corner of a map */
    position: (row, place) => panes[Math.min(place, panes.length - 1)].map.position(row),
    /** @returns {number} how many other images lie in the very place of a row */
    alikeAt: (row, place) => panes[Math.min(place, panes.length - 1)].map.alikeAt(row),
    surface: (place) => panes[Math.min(place, panes.length - 1)].map.surface,
    /** Move the maps no farther than a row needs to be seen. */
    reveal(row) { if (row >= 0) for (const { map } of panes) map.reveal(row); },
    /** Nothing is hovered any more. */
    leave() { for (const { map } of panes) map.leave(); },
    focus() { panes[0].map.surface.focus({ preventScroll: true }); },
    destroy() {
      for (const { map } of panes) map.destroy();
      element.remove();
    },
  };
}
