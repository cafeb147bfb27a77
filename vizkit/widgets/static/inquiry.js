// Questions to a kernel that may be slow, busy or gone: the latest counts, and silence is told.

/** @typedef {{status: "idle"} | {status: "loading"} | {status: "slow"} | {status: "ready", reply: any} | {status: "error", message: string}} Answer */

/**
 * Ask one question at a time. While one is out, only the newest of the following waits; an answer that is no longer
 * wanted is dropped. After `patience` milliseconds of silence `slow` is told, and a newer question no longer waits; an
 * answer that comes later still is a welcome one.
 * @param {(question: any) => Promise<any>} ask @param {(answer: Answer) => void} tell @param {number} patience
 */
export function createInquiry(ask, tell, patience = 30000) {
  let turn = 0, out = 0, waiting = null, timer = 0;

  function next() {
    if (out || !waiting) return;
    const { question, mine } = waiting;
    waiting = null;
    out = mine;
    Promise.resolve().then(() => ask(question)).then(
      (reply) => finish(mine, { status: "ready", reply }),
      (error) => finish(mine, { status: "error", message: error?.message || String(error) }),
    );
  }

  function finish(mine, answer) {
    if (out === mine) out = 0;
    if (mine === turn) {
      clearTimeout(timer);
      tell(answer);
    }
    next();
  }

  return {
    ask(question) {
      const mine = ++turn;
      waiting = { question, mine };
      clearTimeout(timer);
      timer = setTimeout(() => {
        if (mine !== turn) return;
        tell({ status: "slow" });
        out = 0;
        next();
      }, patience);
      tell({ status: "loading" });
      next();
    },
    /** Want no answer any more. */
    drop() {
      turn++;
      waiting = null;
      clearTimeout(timer);
      tell({ status: "idle" });
    },
    destroy() {
      turn++;
      waiting = null;
      clearTimeout(timer);
    },
  };
}
