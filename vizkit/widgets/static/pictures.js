// Pictures by row: thumbnails cut from one buffer and decoded when first asked for, sharper ones from the host.

const THUMBNAILS_KEPT = 600;
const SHARP_KEPT = 80;

/** A map that forgets what was used longest ago. */
export class RecentMap {
  /** @param {number} size */
  constructor(size) {
    this.size = size;
    this.entries = new Map();
  }

  get(key) {
    const value = this.entries.get(key);
    if (value !== undefined) {
      this.entries.delete(key);
      this.entries.set(key, value);
    }
    return value;
  }

  set(key, value) {
    this.entries.delete(key);
    this.entries.set(key, value);
    if (this.entries.size > this.size) this.entries.delete(this.entries.keys().next().value);
    return value;
  }
}

/** @param {Uint8Array} bytes @returns {string} the type a picture's first bytes tell */
function pictureType(bytes) {
  if (bytes[0] === 0x89 && bytes[1] === 0x50) return "image/png";
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return "image/jpeg";
  return "image/webp";
}

/** @param {Blob} blob @returns {Promise<ImageBitmap | null>} null where the picture cannot be read */
async function decodePicture(blob) {
  try {
    return await createImageBitmap(blob);
  } catch {
    return null; // A picture that does not decode is shown as "no picture": it must not take the view down.
  }
}

/** @param {Uint8Array} bytes of a small picture @returns {string} */
const dataAddress = (bytes) => `data:${pictureType(bytes)};base64,${btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""))}`;

/**
 * @param {{ids: string[], thumbnails: Uint8Array | null, offsets: Uint32Array | null, has_pictures: boolean, coming: boolean}} data
 *   `coming`: a thumbnail that is missing may come by `add`
 * @param {(id: string) => Promise<{image: Blob}>} requestPicture
 */
export function createPictures(data, requestPicture) {
  const thumbnails = new RecentMap(THUMBNAILS_KEPT), decoded = new RecentMap(THUMBNAILS_KEPT), sharpOnes = new RecentMap(SHARP_KEPT);
  const added = new Map(), guests = new Map(), waiting = new Map(); // files that came in parts, and who waits for one, by row

  function fileOf(row) {
    if (added.has(row)) return added.get(row);
    return data.thumbnails && data.offsets && row < data.ids.length ? data.thumbnails.subarray(data.offsets[row], data.offsets[row + 1]) : null;
  }

  const has = (row) => Boolean(fileOf(row)?.length);
  const isComing = (row) => data.coming && !has(row) && !added.has(row);

  /** @returns {Promise<ImageBitmap | null>} pending until it comes where it is coming; null where there is none */
  function thumbnail(row) {
    const known = thumbnails.get(row) ?? waiting.get(row)?.promise;
    if (known) return known;
    if (isComing(row)) {
      const wait = {};
      wait.promise = new Promise((resolve) => { wait.resolve = resolve; });
      waiting.set(row, wait);
      return wait.promise;
    }
    const bytes = fileOf(row);
    if (!bytes?.length) return Promise.resolve(null);
    const promise = decodePicture(new Blob([bytes], { type: pictureType(bytes) }));
    promise.then((bitmap) => bitmap && decoded.set(row, bitmap));
    return thumbnails.set(row, promise);
  }

  function serve(rows) {
    for (const row of rows) {
      const wait = waiting.get(row);
      if (!wait || isComing(row)) continue;
      waiting.delete(row);
      wait.resolve(thumbnail(row));
    }
  }

  /** Thumbnails that were made meanwhile: file i is that of row rows[i]; an empty one says that there is none. */
  function add({ rows, offsets, files }) {
    rows.forEach((row, i) => { if (!has(row)) added.set(row, files.subarray(offsets[i], offsets[i + 1])); });
    serve(rows);
  }

  /** The same images, with data that is newer. */
  function setData(next) {
    if (next.thumbnails !== data.thumbnails && !next.coming) for (const row of added.keys()) if (!guests.has(row)) added.delete(row);
    data = next;
    serve([...waiting.keys()]);
  }

  /** @returns {Promise<ImageBitmap | null>} a picture as large as the host has it; null where it has none */
  function sharp(row) {
    if (!data.has_pictures) return Promise.resolve(null);
    const known = sharpOnes.get(row);
    if (known) return known;
    const promise = requestPicture(guests.get(row) ?? data.ids[row]).then((reply) => decodePicture(reply.image));
    // A refusal is not kept: the kernel may be back at the next try.
    promise.catch(() => sharpOnes.entries.delete(row));
    return sharpOnes.set(row, promise);
  }

  /**
   * A thumbnail to draw in this very frame: browsers read a data address before anything else happens, while a bitmap is
   * decoded elsewhere and comes one or two frames later.
   * @returns {Promise<ImageBitmap | HTMLImageElement | null>}
   */
  async function atOnce(row) {
    const bytes = decoded.get(row) || isComing(row) ? null : fileOf(row);
    if (!bytes?.length) return decoded.get(row) ?? thumbnail(row);
    const image = new Image();
    image.src = dataAddress(bytes);
    await null;
    if (!image.complete) await image.decode().catch(() => null);
    return image.naturalWidth ? image : null;
  }

  /** @param {number} row @returns {ImageBitmap | undefined} the thumbnail if it is decoded already */
  const peek = (row) => decoded.get(row);

  /** A picture of a row beyond those of the data. @param {Uint8Array} file */
  function addGuest(row, id, file) {
    if (added.get(row)) return; // the same guest, with another place on a map
    guests.set(row, id);
    added.set(row, file);
  }

  return { has, isComing, thumbnail, atOnce, peek, sharp, add, addGuest, setData };
}
