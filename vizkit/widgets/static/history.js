// Where the user has been: one query after another, with a way back and forward, as in a browser. Pure.

const LONGEST = 200; // queries remembered

/**
 * @returns {{visit: (row: number) => void, leave: () => void, back: () => number, forward: () => number, jump: (place: number) => number,
 *   state: () => {back: boolean, forward: boolean, rows: number[], at: number}, forget: () => void}}
 *   `back`, `forward` and `jump` return the row that is the query then, or -1 where there is no such place
 */
export function createHistory() {
  let rows = [], at = -1, away = false; // away: no query is shown; back returns to the last

  function go(place) {
    if (place < 0 || place >= rows.length) return -1;
    at = place;
    away = false;
    return rows[at];
  }

  return {
    /** A row became the query: what lay ahead is given up. */
    visit(row) {
      if (rows[at] !== row) {
        rows = [...rows.slice(0, at + 1), row].slice(-LONGEST);
        at = rows.length - 1;
      }
      away = false;
    },
    /** There is no query any more. */
    leave() { away = true; },
    back: () => go(away ? at : at - 1),
    forward: () => go(at + 1),
    jump: go,
    state: () => ({ back: away ? at >= 0 : at > 0, forward: at + 1 < rows.length, rows: [...rows], at: away ? -1 : at }),
    forget() { rows = []; at = -1; away = false; },
  };
}
