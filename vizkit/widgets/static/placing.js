// Images of the user's on their way to the kernel, which finds their places: how many are, and what went wrong.

import { clipText } from "./elements.js";
import { SILENT, tellSilence } from "./inquiry.js";

const PLACING = "place"; // the kind of what is said

/**
 * @param {(name: string, payload: any, files: ArrayBuffer[]) => Promise<any>} request
 * @param {{changed: () => void, say: (text: string, kind: string) => void, settle: (kind: string) => void}} told
 */
export function createPlacing(request, told) {
  let waiting = 0;
  return {
    /** @returns {number} how many are on their way; one that nothing is heard of is none */
    waiting: () => waiting,
    /** @param {string} name of the file @param {ArrayBuffer} bytes */
    add(name, bytes) {
      let open = true;
      const over = () => {
        if (open) waiting -= 1;
        open = false;
        told.changed();
      };
      waiting += 1;
      told.settle(PLACING);
      told.changed();
      tellSilence(request("place", { file: name }, [bytes]), () => {
        over();
        told.say(`“${clipText(name, 80)}” has no place yet. ${SILENT}`, PLACING);
      }).then(() => { over(); told.settle(PLACING); }, (error) => { over(); told.say(error?.message || String(error), PLACING); });
    },
  };
}
