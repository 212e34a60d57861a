// The words of the page, one file for each language in `strings/`. To add a language: one file more, and one entry here.
// What the server says of a file stays in English.

import de from "./strings/de.js";
import en from "./strings/en.js";
import es from "./strings/es.js";
import fr from "./strings/fr.js";
import ja from "./strings/ja.js";
import zh from "./strings/zh.js";

const words = { en, de, fr, es, ja, zh };
export const languages = Object.entries({ en: "English", de: "Deutsch", fr: "Français", es: "Español", ja: "日本語", zh: "中文" });

let current = chosen() ?? wanted();

/** The language that was chosen here before. */
function chosen() {
  try {
    const kept = localStorage.getItem("refiner-language");
    return kept in words ? kept : undefined;
  } catch { return undefined; } // the browser keeps nothing
}

/** The first of the browser's languages that there are words in. */
function wanted() {
  return navigator.languages.map((name) => name.slice(0, 2).toLowerCase()).find((name) => name in words) ?? "en";
}

export const language = () => current;

/** A string with its blanks filled in. */
export function t(key, values = {}) {
  const text = words[current][key] ?? en[key] ?? key;
  return typeof text === "string" ? text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "") : text;
}

/** The name of a setting; those without one here go by their own. */
export const settingName = (name) => words[current].settings[name] ?? en.settings[name] ?? name.replaceAll("_", " ");

/** Seconds as people say them. */
export function duration(seconds) {
  if (seconds < 100) return t("seconds", { n: seconds < 10 ? Math.max(seconds, 0.1).toFixed(seconds < 3 ? 1 : 0) : Math.round(seconds / 5) * 5 });
  return t("minutes", { n: Math.round(seconds / 60) });
}

/** Take another language. */
export function chooseLanguage(name) {
  current = name;
  try { localStorage.setItem("refiner-language", name); } catch { /* for this visit, then */ }
  translatePage();
}

/** Put the strings where the page's attributes ask for them. */
export function translatePage() {
  document.documentElement.lang = current;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t, node.dataset);
  for (const node of document.querySelectorAll("[data-title]")) {
    node.title = t(node.dataset.title);
    node.setAttribute("aria-label", node.title);
  }
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", t(node.dataset.label));
  for (const node of document.querySelectorAll("[data-short]")) node.textContent = words[current].short[node.dataset.short];
  const list = document.getElementById("key-list");
  list?.replaceChildren(...t("keys").flatMap(([keys, what]) => {
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.append(...keys.split(/\s{2,}/).flatMap((key) => {
      const node = document.createElement("kbd");
      node.textContent = key;
      return [node, " "];
    }));
    text.textContent = what;
    return [term, text];
  }));
}
