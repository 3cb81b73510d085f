/* Light, dark, or as the system is; kept in this browser. It runs before the first paint. */

const KEPT = "slipway.theme";
const THEMES = ["system", "light", "dark"];

/** Storage may be off in this browser: then the choice lasts as long as the page. */
function kept() {
  try { return localStorage.getItem(KEPT) ?? "system"; } catch { return "system"; }
}

let theme = THEMES.includes(kept()) ? kept() : "system";

function apply() {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

/** Makes `button` go through the themes and say which one is on. */
export function themeSwitch(button) {
  const name = () => { button.textContent = `Theme: ${theme}`; };
  button.onclick = () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try { localStorage.setItem(KEPT, theme); } catch { /* as above */ }
    apply();
    name();
  };
  name();
}

apply();
