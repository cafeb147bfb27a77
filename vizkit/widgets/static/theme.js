// Light or dark: read from the page the explorer stands in, told again when that changes.

/** @param {string} color a computed CSS color @returns {[number, number, number]} 0..255; white for what cannot be read or seen through */
function cssToRgb(color) {
  const parts = color.match(/-?[\d.]+(e-?\d+)?/g)?.map(Number) ?? [];
  if (parts.length < 3 || parts[3] === 0) return [255, 255, 255];
  return parts.slice(0, 3).map((v) => Math.round(color.startsWith("color(") ? v * 255 : v));
}

/**
 * @param {HTMLElement} root its computed --vk colors are read
 * @param {(theme: {dark: boolean, ink: string, paper: string, paperRgb: number[], accent: string}) => void} told at once and at every change
 * @returns {() => void} stops watching
 */
export function watchTheme(root, told) {
  let last = "", timer = 0;
  function check() {
    const style = getComputedStyle(root);
    const paperRgb = cssToRgb(style.backgroundColor), [r, g, b] = paperRgb;
    const theme = {
      dark: 0.299 * r + 0.587 * g + 0.114 * b < 128, paperRgb,
      ink: style.color, paper: style.backgroundColor, accent: style.getPropertyValue("--vk-accent").trim(),
    };
    const key = JSON.stringify(theme);
    if (key === last) return;
    last = key;
    root.dataset.theme = theme.dark ? "dark" : "light";
    told(theme);
  }
  // A theme's style sheet may arrive well after the attribute that announces it.
  function soon() {
    check();
    clearTimeout(timer);
    timer = setTimeout(() => { check(); timer = setTimeout(check, 1200); }, 250);
  }
  const observer = new MutationObserver(soon);
  for (const target of [document.documentElement, document.body]) observer.observe(target, { attributes: true });
  const media = window.matchMedia("(prefers-color-scheme: dark)");
  media.addEventListener("change", soon);
  soon();
  return () => {
    clearTimeout(timer);
    observer.disconnect();
    media.removeEventListener("change", soon);
  };
}
