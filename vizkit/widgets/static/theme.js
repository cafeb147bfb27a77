// Light or dark: read from the page the explorer stands in, told again when that changes.

/** @param {string} color a computed CSS color @returns {number} lightness in [0, 1]; 1 for what cannot be read */
export function colorLightness(color) {
  const parts = color.match(/[\d.]+/g)?.map(Number) ?? [];
  if (parts.length < 3) return 1;
  const factor = color.startsWith("color(") ? 1 : 1 / 255;
  return (0.299 * parts[0] + 0.587 * parts[1] + 0.114 * parts[2]) * factor;
}

/**
 * @param {HTMLElement} root its computed --vk colors are read
 * @param {(theme: {dark: boolean, ink: string, paper: string, accent: string}) => void} told at once and at every change
 * @returns {() => void} stops watching
 */
export function watchTheme(root, told) {
  let last = "", timer = 0;
  function check() {
    const style = getComputedStyle(root);
    const theme = {
      dark: colorLightness(style.backgroundColor) < 0.5,
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
