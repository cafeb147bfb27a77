// Questions to a kernel that may be slow, busy or gone: the latest counts, and silence is told.

const PATIENCE = 30000; // milliseconds of silence until it is told
export const SILENT = "The kernel is not answering: it may be busy, restarted or gone.";

/** @typedef {{status: "idle"} | {status: "loading"} | {status: "slow"} | {status: "ready", reply: any} | {status: "error", message: string, quiet: boolean}} Answer
 *  `quiet`: nothing went wrong, there is just no answer here */

/**
 * Ask for evidence until every neighbor has its own: a slow method answers for some and names those still `pending`.
 * @param {(question: any) => Promise<any>} request @returns {(question: any, show: (reply: any) => boolean) => Promise<any>}
 */
export function inParts(request) {
  return async (question, show) => {
    let reply = await request(question);
    while (reply.pending?.length && show(reply)) {
      const more = await request({ ...question, method: reply.method, neighbors: reply.pending });
      reply = {
        ...reply,
        pairs: [...reply.pairs, ...more.pairs],
        pending: more.pending,
        limit: Math.max(reply.limit, more.limit),
        signed: reply.signed || more.signed,
      };
    }
    return reply;
  };
}

/**
 * Ask for evidence in two stages, where no method is named: what is there at once, then the slower method that was found
 * trustworthy here (`better`), which takes the first one's place when it is complete. What is shown meanwhile says in `coming`
 * {method, done, total} how far that is; if it fails, the first stays and says why in `failed`.
 * @param {(question: any) => Promise<any>} request @returns {(question: any, show: (reply: any) => boolean) => Promise<any>}
 */
export function inStages(request) {
  const whole = inParts(request);
  return async (question, show) => {
    const first = await whole(question, show), method = first.better, total = question.neighbors.length;
    if (!method || method === first.method || question.method) return first;
    if (!show({ ...first, coming: { method, done: 0, total } })) return first;
    try {
      const last = await whole({ ...question, method }, (part) => show({ ...first, coming: { method, done: part.pairs.length, total } }));
      return last.pending?.length ? first : { ...last, reason: "of what was measured here, it was found the most trustworthy" };
    } catch (error) {
      return { ...first, failed: error?.message || String(error) };
    }
  };
}

/**
 * Tell where an answer stays out: the kernel may be busy, or gone. The answer is still waited for, and may come later.
 * @template T @param {Promise<T>} answer @param {() => void} silent @param {number} patience milliseconds @returns {Promise<T>} the same
 */
export function tellSilence(answer, silent, patience = PATIENCE) {
  const timer = setTimeout(silent, patience), over = () => clearTimeout(timer);
  answer.then(over, over);
  return answer;
}

/**
 * Ask one question at a time. `ask(question, show)` may call `show` with what it has so far, as often as it has more; it
 * learns whether the answer is still wanted. While one is out, only the newest of the following waits; an answer that is no longer
 * wanted is dropped. After `patience` milliseconds of silence `slow` is told, and a newer question no longer waits; an
 * answer that comes later still is a welcome one.
 * @param {(question: any, show: (reply: any) => boolean) => Promise<any>} ask @param {(answer: Answer) => void} tell @param {number} patience
 */
export function createInquiry(ask, tell, patience = PATIENCE) {
  let turn = 0, out = 0, waiting = null, timer = 0;

  function next() {
    if (out || !waiting) return;
    const { question, mine } = waiting;
    waiting = null;
    out = mine;
    const show = (reply) => {
      if (mine !== turn) return false;
      watch(mine);
      tell({ status: "ready", reply });
      return true;
    };
    Promise.resolve().then(() => ask(question, show)).then(
      (reply) => finish(mine, { status: "ready", reply }),
      (error) => finish(mine, { status: "error", message: error?.message || String(error), quiet: Boolean(error?.quiet) }),
    );
  }

  /** Tell of silence, counted from now. */
  function watch(mine) {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (mine !== turn) return;
      tell({ status: "slow" });
      out = 0;
      next();
    }, patience);
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
      watch(mine);
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
