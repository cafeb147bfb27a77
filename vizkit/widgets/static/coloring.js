// What the points are colored by: a column, or something computed from the neighbors, and the colors that follow from it.

import { columnScale, formatNumber } from "./colors.js";
import { SILENT, tellSilence } from "./inquiry.js";
import { RecentMap } from "./pictures.js";
import { timesNeighbor } from "./relations.js";

const ANSWERS_KEPT = 6;
const COMPUTED = { kept: "neighbors kept", times: "times a neighbor", similarity: "similarity to the query", changed: "neighbors changed" };
const NO_COLUMN = "";

/** @param {import("./colors.js").Column[]} columns @returns {string} a computed color, or fact, steps aside where a column has its name */
export function computedName(name, columns) {
  return columns.some((column) => column.name === name) ? computedName(`${name} (computed)`, columns) : name;
}

/**
 * Numbers for every image that only the host can compute, asked for once.
 * @param {(name: string, payload: any) => Promise<any>} request @param {() => void} changed told when an answer has come
 */
export function createAnswers(request, changed) {
  const kept = new RecentMap(ANSWERS_KEPT);
  const layouts = new WeakMap();
  let epoch = 0, seen = 0;

  const keyOf = (name, payload, about = []) => JSON.stringify([epoch, name, payload, about]);

  /** @param {Float32Array} xy @returns {number} the same for the same layout only */
  function layoutOf(xy) {
    if (!layouts.has(xy)) layouts.set(xy, seen += 1);
    return layouts.get(xy);
  }

  /** @returns {{values: Float32Array | null, text: string, error: string, waiting: boolean}} what is known now */
  function ask(name, payload, about) {
    const key = keyOf(name, payload, about), known = kept.get(key);
    if (known) return known;
    const answer = kept.set(key, { values: null, text: "", error: "", waiting: true });
    // After a silence it may have been asked for again: an answer is welcome, however late, and a failure is of its own question.
    const fill = (one, fields) => { if (one) { Object.assign(one, fields, { waiting: false }); changed(); } };
    const failed = (error) => fill(answer.values ? null : answer, { error });
    tellSilence(request(name, payload), () => failed(SILENT)).then(
      (reply) => fill(kept.get(key), { values: reply.values, text: reply.text ?? "", error: "" }),
      (error) => failed(error?.message || String(error)),
    );
    return answer;
  }

  return {
    similarities: (graph, query) => ask("similarities", { graph, query }),
    /** @returns {boolean} whether all similarities to an image are there, or asked for */
    known: (graph, query) => kept.entries.has(keyOf("similarities", { graph, query })),
    /** @param {Float32Array[]} layouts of the two maps now: where one is replaced, its neighbors on the map are others */
    change: (a, b, now) => ask("change", { a, b }, now.map(layoutOf)),
    /** Ask anew for what could not be answered, or for all of it where the data are others. */
    forget(all) {
      if (all) epoch += 1;
      for (const [key, answer] of kept.entries) if (all || answer.error) kept.entries.delete(key);
    },
  };
}

/** @returns {[number, number]} the least and the greatest of all numbers; [0, 1] where there is none */
function spanOf(arrays) {
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

  /** @returns {[string, string][]} kind and name */
  const computed = () => Object.entries(COMPUTED).filter(([kind]) => kind !== "changed" || shown.length > 1).map(([kind, title]) => [kind, computedName(title, data.columns)]);
  const kindNow = () => (data ? computed().find(([, own]) => own === name)?.[0] : undefined);
  const colorable = () => data.columns.filter((column) => column.kind !== "text");

  function timesOf({ graph }) {
    const { indices } = data.graphs[graph];
    let total = 0;
    if (!times.has(indices)) times.set(indices, timesNeighbor(indices, data.ids.length));
    for (const value of times.get(indices)) total += value;
    note = data.ids.length ? `${formatNumber(total / data.ids.length)} on average` : "";
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
    const { values, text, error, waiting } = answers.change(...shown, shown.map((index) => data.maps[index].xy));
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
    setQuery(row) { query = row; answers.forget(false); if (kindNow() === "similarity") refresh(); },
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
