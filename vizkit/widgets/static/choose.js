// Which columns are told of an image: a menu of check boxes.

import { clipText, make } from "./elements.js";

const CHOSEN_FIRST = 3; // columns told until the user chooses

let menus = 0;

/**
 * @param {{chosen: (names: string[]) => void}} told told at once for new columns, then at every change; in the columns' order
 * @returns {{element: HTMLElement, setData: (columns: import("./colors.js").Column[]) => void}}
 */
export function createChoose(told) {
  const own = `vk-choose-${menus += 1}`;
  let columns = [], chosen = null; // names; null until the user chooses

  const button = make("button", { type: "button", class: "vk-button", "data-vizkit": "columns", "aria-expanded": "false", "aria-controls": own, text: "Columns", title: "What the card on the map tells of an image", on: { click: () => open(menu.hidden) } });
  const menu = make("div", { class: "vk-menu", id: own, role: "group", "aria-label": "Columns told of an image", hidden: true });
  const element = make("div", { class: "vk-choose", on: { keydown: onKey, focusout: (event) => { if (event.relatedTarget && !element.contains(event.relatedTarget)) open(false); } } }, button, menu);

  const isChosen = (name, at) => (chosen ? chosen.has(name) : at < CHOSEN_FIRST);

  function tell() {
    told.chosen(columns.filter(isChosen));
  }

  function open(on) {
    menu.hidden = !on;
    button.setAttribute("aria-expanded", String(on));
    if (on) {
      menu.style.left = "0";
      const room = element.closest(".vizkit-explorer")?.getBoundingClientRect().right ?? Infinity;
      menu.style.left = `${Math.min(room - menu.getBoundingClientRect().right, 0)}px`; // inside the explorer, wherever the button stands
      menu.querySelector("input")?.focus();
      document.addEventListener("pointerdown", outside, true);
    } else document.removeEventListener("pointerdown", outside, true);
  }

  function outside(event) {
    if (!element.contains(event.target)) open(false);
  }

  function onKey(event) {
    if (menu.hidden) return;
    const boxes = Array.from(menu.querySelectorAll("input")), at = boxes.indexOf(event.target);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") { open(false); button.focus(); } else if (step) boxes[(at + step + boxes.length) % boxes.length]?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function toggle(name, on) {
    chosen ??= new Set(columns.filter(isChosen));
    if (on) chosen.add(name);
    else chosen.delete(name);
    tell();
  }

  return {
    element,
    setData(next) {
      const names = next.map((column) => column.name);
      if (names.length === columns.length && names.every((name, at) => name === columns[at])) return;
      columns = names;
      button.disabled = !names.length;
      const focused = document.activeElement?.dataset?.column;
      menu.replaceChildren(...names.map((name, at) => {
        const box = make("input", { type: "checkbox", "data-column": name, on: { change: () => toggle(name, box.checked) } });
        box.checked = isChosen(name, at);
        return make("label", { class: "vk-menu-line" }, box, make("span", { text: clipText(name, 60), dir: "auto" }));
      }));
      if (focused !== undefined && !menu.hidden) Array.from(menu.querySelectorAll("input")).find((box) => box.dataset.column === focused)?.focus();
      if (!names.length) open(false);
      tell();
    },
  };
}
