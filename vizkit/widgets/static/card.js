// The card at the hovered point: picture, id and columns, from what the browser already holds.

import { clipMiddle, clipText, containRect, make, sizeCanvas } from "./elements.js";

const CARD_IMAGE = 160; // CSS pixels
const DWELL = 300; // milliseconds over one point before a sharper picture is asked for: an answer that comes while the pointer moves on would slow it down

/**
 * @param {{atOnce: (row: number) => Promise<ImageBitmap | HTMLImageElement | null>,
 *   sharp: (row: number) => Promise<ImageBitmap | null>, has: (row: number) => boolean, isComing: (row: number) => boolean}} pictures
 * @param {HTMLElement} surface the map it lies on
 */
export function createCard(pictures, surface) {
  const picture = make("canvas", { class: "vk-card-image", "data-vizkit": "card-image", role: "img" });
  const name = make("div", { class: "vk-card-id", "data-vizkit": "card-id", dir: "auto" });
  const facts = make("dl", { class: "vk-facts" }), others = make("div", { class: "vk-quiet", hidden: true });
  const card = make("div", { class: "vk-card", "data-vizkit": "card", hidden: true }, picture, make("div", { class: "vk-card-text" }, name, facts, others));
  surface.append(card);
  let shown = -1, timer = 0;

  function paint(row, bitmap, kind) {
    if (row !== shown || (kind === "thumbnail" && picture.dataset.kind === "sharp")) return;
    wait(false);
    picture.hidden = !bitmap && !pictures.has(row);
    if (!bitmap) return;
    const context = sizeCanvas(picture, CARD_IMAGE, CARD_IMAGE);
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, ...containRect(bitmap, CARD_IMAGE, CARD_IMAGE));
    picture.dataset.row = String(row);
    picture.dataset.kind = kind;
  }

  /** A picture that is still being made has a place of its own, so that the card does not jump when it comes. */
  function wait(on) {
    picture.toggleAttribute("data-waiting", on);
    picture.setAttribute("aria-busy", String(on));
  }

  function clearPicture() {
    sizeCanvas(picture, CARD_IMAGE, CARD_IMAGE);
    delete picture.dataset.row;
    delete picture.dataset.kind;
  }

  function loadPicture(row, id) {
    clearPicture();
    picture.hidden = !pictures.has(row) && !pictures.isComing(row);
    wait(pictures.isComing(row));
    picture.setAttribute("aria-label", `Picture of ${clipText(id)}`);
    pictures.atOnce(row).then((picture) => paint(row, picture, "thumbnail"));
    timer = setTimeout(() => {
      // Without a kernel the thumbnail stays: a card is no place to complain.
      pictures.sharp(row).then((bitmap) => { if (bitmap) paint(row, bitmap, "sharp"); }, () => {});
    }, DWELL);
  }

  return {
    /** @param {{row: number, id: string, facts: [string, string][], alike: number}} item `alike`: others in the same place @param {HTMLElement} on the map @param {[number, number]} at pixel of the point on it */
    show(item, on, at) {
      if (surface !== on) {
        surface = on;
        on.append(card);
      }
      if (shown !== item.row) {
        clearTimeout(timer);
        shown = item.row;
        loadPicture(item.row, item.id);
      }
      name.textContent = clipMiddle(item.id);
      // A pair takes two lines where it does not fit on one.
      facts.replaceChildren(...item.facts.map(([key, value]) => make("div", { class: "vk-fact" },
        make("dt", { text: clipText(key, 40), dir: "auto" }), make("dd", { text: clipText(value), dir: "auto" }))));
      others.textContent = `and ${item.alike.toLocaleString("en-US")} more here`;
      others.hidden = !item.alike;
      card.hidden = false;
      this.place(at);
    },
    /** Beside the point, on the side that has room. */
    place([x, y]) {
      if (card.hidden) return;
      const w = card.offsetWidth, h = card.offsetHeight, gap = 16;
      const left = x + gap + w < surface.clientWidth ? x + gap : Math.max(x - gap - w, 4);
      const top = Math.min(Math.max(y - h / 2, 4), Math.max(surface.clientHeight - h - 4, 4));
      card.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
    },
    hide() {
      clearTimeout(timer);
      shown = -1;
      card.hidden = true;
    },
    destroy() {
      clearTimeout(timer);
      card.remove();
    },
  };
}
