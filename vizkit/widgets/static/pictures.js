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
export function pictureType(bytes) {
  if (bytes[0] === 0x89 && bytes[1] === 0x50) return "image/png";
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return "image/jpeg";
  return "image/webp";
}

/** @param {Blob} blob @returns {Promise<ImageBitmap | null>} null where the picture cannot be read */
export async function decodePicture(blob) {
  try {
    return await createImageBitmap(blob);
  } catch {
    return null; // A picture that does not decode is shown as "no picture": it must not take the view down.
  }
}

/**
 * @param {{ids: string[], thumbnails: Uint8Array | null, offsets: Uint32Array | null, has_pictures: boolean}} data
 * @param {(id: string) => Promise<{image: Blob}>} requestPicture
 */
export function createPictures(data, requestPicture) {
  const thumbnails = new RecentMap(THUMBNAILS_KEPT), decoded = new RecentMap(THUMBNAILS_KEPT), sharpOnes = new RecentMap(SHARP_KEPT);

  const has = (row) => Boolean(data.thumbnails && data.offsets && data.offsets[row + 1] > data.offsets[row]);

  /** @returns {Promise<ImageBitmap | null>} */
  function thumbnail(row) {
    if (!has(row)) return Promise.resolve(null);
    const known = thumbnails.get(row);
    if (known) return known;
    const bytes = data.thumbnails.subarray(data.offsets[row], data.offsets[row + 1]);
    const promise = decodePicture(new Blob([bytes], { type: pictureType(bytes) }));
    promise.then((bitmap) => bitmap && decoded.set(row, bitmap));
    return thumbnails.set(row, promise);
  }

  /** @returns {Promise<ImageBitmap | null>} a picture as large as the host has it; null where it has none */
  function sharp(row) {
    if (!data.has_pictures) return Promise.resolve(null);
    const known = sharpOnes.get(row);
    if (known) return known;
    const promise = requestPicture(data.ids[row]).then((reply) => decodePicture(reply.image));
    // A refusal is not kept: the kernel may be back at the next try.
    promise.catch(() => sharpOnes.entries.delete(row));
    return sharpOnes.set(row, promise);
  }

  /** @param {number} row @returns {ImageBitmap | undefined} the thumbnail if it is decoded already */
  const peek = (row) => decoded.get(row);

  return { has, thumbnail, peek, sharp };
}
