// Why this one and not that one: two are picked, and three pictures show on one scale what speaks for either.

import { clipText, make } from "./elements.js";
import { formatNumber } from "./colors.js";
import { createBadge } from "./badge.js";
import { cellAt, decodeSeen, drawPicture } from "./evidence.js";
import { SILENT, createInquiry } from "./inquiry.js";
import { createMessage, createScale } from "./method.js";
import { similarityWords } from "./tiles.js";

/** @typedef {{row: number, id: string, similarity: number | null, percentile?: number | null, thumbnail: Promise<ImageBitmap | null>}} Choice an image that was picked */

const CONTRAST_OPACITY = 0.75;
const ROLES = ["Query", "This one", "That one"];

/** @param {{request: (name: string, payload: any) => Promise<any>, close: () => void, changed: () => void}} told `changed`: another pick is awaited, or none */
export function createContrast(told) {
  const cancel = make("button", { type: "button", class: "vk-button", text: "Cancel", title: "Pick none (Escape)", on: { click: () => stop() } });
  const invitation = make("span", { role: "status" }), banner = make("div", { class: "vk-row vk-picking", hidden: true }, invitation, cancel);
  const back = make("button", { type: "button", class: "vk-button", text: "← Neighbors", title: "Back to all neighbors (Escape)", on: { click: told.close } });
  const head = make("div", { class: "vk-row vk-view-head" }, back, make("div", { class: "vk-view-title", text: "This one, not that one" }));
  const pictures = ROLES.map(makePicture), scale = createScale(), message = createMessage(), badge = createBadge("contrast-trust"), made = make("span", { class: "vk-made" });
  const headline = make("p", { class: "vk-contrast-words" }), more = make("p", { class: "vk-quiet vk-contrast-more" });
  const text = make("div", { "data-vizkit": "contrast-text" }, headline, more), source = make("div", { class: "vk-source", "data-blank": true }, badge.element, made);
  const element = make("section", { class: "vk-contrast", "aria-label": "Contrast", hidden: true }, head, make("div", { class: "vk-contrast-images" }, ...pictures.map((p) => p.element)), scale.element, text, source, message.element);
  const inquiry = createInquiry((question) => told.request("contrast", question), hear);
  let asking = null, picked = [], reply = null, seen = [], images = [], value = null;

  function makePicture(role, index) {
    const canvas = make("canvas", {
      class: "vk-contrast-image", role: "img",
      on: { pointermove: (event) => readAt(event, index), pointerenter: paint, pointerleave: () => { readAt(null, index); paint(); } },
    });
    const name = make("div", { class: "vk-pair-name", dir: "auto" }), number = make("div", { class: "vk-quiet" });
    return { canvas, name, number, element: make("figure", {}, canvas, make("figcaption", {}, make("span", { class: "vk-over", text: role }), name, number)) };
  }

  function readAt(event, index) {
    const { canvas } = pictures[index], box = event && canvas.getBoundingClientRect();
    value = event && reply ? cellAt(canvas.place, mapOf(index), event.clientX - box.left, event.clientY - box.top)?.value ?? null : null;
    paintScale();
  }

  function mapOf(index) {
    const panel = reply?.panels[index];
    return panel ? { map: panel.map, rows: panel.rows, cols: panel.cols, signed: true, limit: reply.limit } : null;
  }

  function paint() {
    if (element.hidden) return;
    pictures.forEach(({ canvas }, i) => { canvas.place = drawPicture(canvas, canvas.clientWidth || 120, seen[i] ?? images[i], seen[i] ? mapOf(i) : null, CONTRAST_OPACITY); });
    paintScale();
  }

  function paintScale() {
    const at = value === null ? "" : `${formatNumber(value)} · `;
    scale.show(reply ? { signed: true, limit: reply.limit, text: `${at}${reply.unit}: left for that one, right for this one` } : null, CONTRAST_OPACITY, value);
  }

  function invite() {
    banner.hidden = !asking || picked.length > 1;
    invitation.textContent = picked.length ? "Now pick “not that one”, here or on the map." : "Pick “this one”, here or on the map.";
    told.changed();
  }

  function stop() {
    asking = null;
    picked = [];
    invite();
  }

  /** The cosine to the query, which is not known of every image before the kernel tells. */
  function numberOf(choice, answered) {
    const similarity = choice.similarity ?? answered, percentile = choice.percentile ?? asking.percentileOf?.(similarity);
    return Number.isFinite(similarity) ? similarityWords({ similarity, percentile }) : "";
  }

  function open() {
    const [near, far] = picked, question = { graph: asking.graph, query: asking.id, near: near.id, far: far.id, method: asking.method };
    const names = [asking.id, near.id, far.id];
    const shownFor = picked;
    element.hidden = false;
    images = [asking.image, null, null];
    pictures.forEach(({ canvas, name, number }, i) => {
      name.textContent = name.title = clipText(names[i], 120);
      number.textContent = i ? numberOf(picked[i - 1]) : "";
      canvas.setAttribute("aria-label", `${ROLES[i]}: ${clipText(names[i], 120)}`);
    });
    picked.forEach(({ thumbnail }, i) => thumbnail.then((bitmap) => { if (picked === shownFor) { images[i + 1] = bitmap; paint(); } }, () => {}));
    headline.textContent = more.textContent = "";
    paint();
    inquiry.ask(question);
  }

  function hear(answer) {
    element.dataset.contrast = answer.status;
    if (answer.status === "loading") message.say("Computing the contrast…", "loading");
    if (answer.status === "slow") message.say(SILENT, "error");
    if (answer.status === "error") message.say(`No contrast: ${answer.message}`, answer.quiet ? "quiet" : "error");
    if (answer.status === "ready") take(answer.reply);
  }

  async function take(next) {
    const shownFor = picked, bitmaps = await Promise.all(next.panels.map((panel) => decodeSeen(panel.seen)));
    if (picked !== shownFor) return;
    reply = next;
    seen = bitmaps;
    message.say("");
    headline.textContent = clipText(reply.headline, 300);
    picked.forEach((choice, i) => { pictures[i + 1].number.textContent = numberOf(choice, reply.similarities?.[i]); });
    more.textContent = "Warm speaks for this one, cool for that one.";
    source.toggleAttribute("data-blank", false);
    badge.show(reply.trust, reply.reason, reply.title);
    made.textContent = made.title = clipText([reply.title, reply.layer && `layer ${reply.layer}`].filter(Boolean).join(" · "));
    paint();
  }

  function forget() {
    reply = value = null;
    seen = [];
    source.toggleAttribute("data-blank", true);
    badge.close();
  }

  return {
    element,
    banner,
    paint,
    stop,
    /** @returns {boolean} */
    isPicking: () => Boolean(asking) && picked.length < 2,
    isOpen: () => !element.hidden,
    /** @returns {number} row of what was taken as this one; -1: nothing yet */
    taken: () => (picked.length === 1 ? picked[0].row : -1),
    /** Begin to pick for a query. @param {{graph: number, id: string, row: number, image: ImageBitmap | null, method: string | null,
     *   percentileOf?: (similarity: number) => number | null}} query */
    start(query) {
      asking = query;
      picked = [];
      forget();
      invite();
    },
    /** @param {Choice} choice @returns {boolean} whether both are there now */
    pick(choice) {
      if (choice.row === asking.row || choice.row === picked[0]?.row) {
        invitation.textContent = choice.row === asking.row ? "That is the query itself. Pick another image." : "That is “this one” already. Pick another image.";
        return false;
      }
      picked = [...picked, choice];
      invite();
      if (picked.length === 2) open();
      return picked.length === 2;
    },
    close() {
      element.hidden = true;
      inquiry.drop();
      forget();
      stop();
    },
    focus() { back.focus({ preventScroll: true }); },
    destroy() { inquiry.destroy(); },
  };
}
