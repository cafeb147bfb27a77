// What the points are colored by: a column, or something computed from the neighbors, and the colors that follow from it.

import { columnScale } from "./colors.js";
import { RecentMap } from "./pictures.js";
import { timesNeighbor } from "./relations.js";

const ANSWERS_KEPT = 6;
const COMPUTED = { kept: "neighbors kept", times: "times a neighbor", similarity: "similarity to the query", changed: "neighbors changed" };
const NO_COLUMN = "";

const keyOf = (name, payload) => JSON.stringify([name, payload]);

/**
 * Numbers for every image that only the host can compute, asked for once.
 * @param {(name: string, payload: any) => Promise<any>} request @param {() => void} changed told when an answer has come
 */
export function createAnswers(request, changed) {
  const kept = new RecentMap(ANSWERS_KEPT);

  /** @returns {{values: Float32Array | null, text: string, error: string, waiting: boolean}} what is known now */
  function ask(name, payload) {
    const key = keyOf(name, payload), known = kept.get(key);
    if (known) return known;
    const answer = kept.set(key, { values: null, text: "", error: "", waiting: true });
    request(name, payload).then(
      (reply) => Object.assign(answer, { values: reply.values, text: reply.text ?? "", waiting: false }),
      (error) => Object.assign(answer, { error: error?.message || String(error), waiting: false }),
    ).then(changed);
    return answer;
  }

  return {
    similarities: (graph, query) => ask("similarities", { graph, query }),
    /** @returns {boolean} whether all similarities to an image are there, or asked for */
    known: (graph, query) => kept.entries.has(keyOf("similarities", { graph, query })),
    change: (a, b) => ask("change", { a, b }),
    /** Ask anew for what could not be answered, or for all of it where the data are others. */
    forget(all) { for (const [key, answer] of kept.entries) if (all || answer.error) kept.entries.delete(key); },
  };
}

/** @returns {[number, number]} the least and the greatest of all numbers; [0, 1] where there is none */
export function spanOf(arrays) {
  let min = Infinity, max = -Infinity;
  for (const values of arrays) {
    for (const value of values) {
      if (value < min) min = value;
      if (value > max) max = value;
    }
  }
  return min < max ? [min, max] : Number.isFinite(min) ? [Math.min(min, 0), Math.max(min, 1)] : [0, 1];
}

/** @param {ReturnType<typeof createAnswers>} answers */
export function createColoring(answers) {
  let data, relations, shown = [0], query = -1, dark = false, name = NO_COLUMN, byUser = false, looks = [], note = "";
  const times = new WeakMap();

  /** A computed color steps aside where a column has its name. @returns {[string, string][]} kind and name */
  function computed() {
    const taken = new Set(data.columns.map((column) => column.name));
    return Object.entries(COMPUTED).filter(([kind]) => kind !== "changed" || shown.length > 1).map(([kind, title]) => [kind, taken.has(title) ? `${title} (computed)` : title]);
  }
  const kindNow = () => (data ? computed().find(([, own]) => own === name)?.[0] : undefined);
  const colorable = () => data.columns.filter((column) => column.kind !== "text");

  function timesOf({ graph }) {
    const { indices } = data.graphs[graph];
    if (!times.has(indices)) times.set(indices, timesNeighbor(indices, data.ids.length));
    return times.get(indices);
  }

  function similaritiesOf({ graph }) {
    if (query < 0) {
      note = "Click a point: the others are colored by how similar they are to it.";
      return new Float32Array(data.ids.length).fill(NaN);
    }
    const { values, error, waiting } = answers.similarities(graph, relations.idOf(query));
    if (values) return values;
    note = waiting ? "Asking for all similarities; now those of the neighbors." : `Of the neighbors only; the others are gray. ${error}`;
    const known = new Float32Array(data.ids.length).fill(NaN), { rows, similarities } = relations.near(query, graph);
    rows.forEach((row, i) => { known[row] = similarities[i]; });
    if (query < known.length) known[query] = 1;
    return known;
  }

  function changes() {
    const { values, text, error, waiting } = answers.change(...shown);
    note = waiting ? "Comparing the two maps…" : error || text;
    return values ?? new Float32Array(data.ids.length).fill(NaN);
  }

  const VALUES = { kept: (map) => map.kept, times: timesOf, similarity: similaritiesOf, changed: changes };

  function refresh() {
    note = "";
    const kind = kindNow();
    if (!kind) {
      const column = colorable().find((c) => c.name === name) ?? null, scale = columnScale(column, dark);
      looks = shown.map(() => ({ column, scale }));
      return;
    }
    const values = shown.map((index) => VALUES[kind](data.maps[index]));
    const range = kind === "kept" || kind === "changed" ? [0, 1] : spanOf(values);
    if (kind === "times") range[0] = 0;
    looks = values.map((own, i) => {
      if (own === values[0] && i) return null;
      const column = { name, kind: "number", values: own, range };
      return { column, scale: columnScale(column, dark) };
    });
    looks = looks.map((look) => look ?? looks[0]);
  }

  function paintOne({ column, scale }, { selection, mask, hide, hidden, emphasized }) {
    const n = data.ids.length, all = relations.count(), rgba = new Uint8Array(4 * all), shownRows = hidden.size || (mask && hide) ? new Uint8Array(all).fill(1) : null;
    const solid = n > 20000 ? 190 : n > 4000 ? 215 : 235, faint = 45, picks = emphasized !== null || hidden.size > 0;
    for (let row = 0; row < all; row++) {
      let opacity = solid;
      if (row < n) {
        if (selection.size && !selection.has(row)) opacity = faint;
        if (mask && !mask[row]) opacity = hide ? 0 : faint;
        if (picks) {
          const entry = entryOf(column, scale, row);
          if (emphasized !== null && entry !== emphasized) opacity = Math.min(opacity, faint);
          if (hidden.has(entry)) opacity = 0;
        }
        if (!opacity) shownRows[row] = 0;
      }
      const color = scale.colorOf(row);
      rgba[4 * row] = color[0];
      rgba[4 * row + 1] = color[1];
      rgba[4 * row + 2] = color[2];
      rgba[4 * row + 3] = opacity;
    }
    return { rgba, shown: shownRows };
  }

  function entryOf(column, scale, row) {
    if (scale.kind === "category") return scale.entryOf(row);
    return scale.kind === "number" && !Number.isFinite(column.values[row]) ? -1 : 0;
  }

  /** The user's choice stays while there is such a color; else the label, or what comes first. */
  function settle() {
    const columns = colorable(), there = name === NO_COLUMN || columns.some((c) => c.name === name) || computed().some(([, own]) => own === name);
    if (byUser && there) return;
    if (byUser && !there) byUser = false;
    name = (columns.find((c) => c.name === "label") ?? columns.find((c) => c.kind === "category") ?? columns[0])?.name ?? computed()[0][1];
  }

  return {
    setData(next, nextRelations, maps) { data = next; relations = nextRelations; shown = maps; settle(); refresh(); },
    setQuery(row) { query = row; if (kindNow() === "similarity") refresh(); },
    setDark(on) { dark = on; refresh(); },
    refresh,
    choose(next) { name = next; byUser = true; answers.forget(false); refresh(); },
    /** @returns {{name: string, columns: string[], computed: string[]}} what can be chosen, and what is */
    choices: () => ({ name, columns: colorable().map((c) => c.name), computed: computed().map(([, own]) => own) }),
    /** @returns {{column: import("./colors.js").Column | null, scale: any}} of the map in that place */
    look: (place = 0) => looks[place] ?? looks[0],
    byQuery: () => kindNow() === "similarity",
    /** @returns {boolean} whether the colors may change by an answer */
    asks: () => ["similarity", "changed"].includes(kindNow()),
    note: () => note,
    /**
     * One pass over the points for each map that has colors of its own.
     * @param {{selection: Set<number>, mask: Uint8Array | null, hide: boolean, hidden: Set<number>, emphasized: number | null}} how
     * @returns {{rgba: Uint8Array, shown: Uint8Array | null}[]} one a map
     */
    paint(how) {
      const painted = [];
      looks.forEach((look, i) => painted.push(i && look.scale === looks[0].scale ? painted[0] : paintOne(look, how)));
      return painted;
    },
  };
}
