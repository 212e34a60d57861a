// What stands around the canvas: history, fills to choose from, formats to download, and the settings under "More".

import { fillsOf, firstFill, roundOf } from "./rounds.js";
import { $, attempt, element, icon } from "./shared.js";
import { duration, settingName, t } from "./strings.js";

const MOST_FILLS = 4;

const partOf = (photo, number) => `api/photos/${photo.id}/rounds/${number}/around`;

/** A button with a picture of what a round changed. */
function shownRound(photo, number, label, text, current, choose) {
  const image = element("img", { src: partOf(photo, number), alt: "" });
  const button = element("button", { type: "button", title: label, "aria-label": label, className: "shot" }, image, element("span", { textContent: text }));
  button.setAttribute("aria-current", String(current));
  button.onclick = () => choose(number);
  return button;
}

/** A strip of all removals, each with the part that it changed; a click goes back to one. Fills of a hole are one. */
export function showHistory(state, { choose, drop }) {
  const { photo, round } = state, { rounds } = photo, shown = roundOf(round);
  const ways = rounds.filter((each) => each.number === firstFill(each) || !roundOf(firstFill(each)));
  $("history").classList.toggle("alone", rounds.length < 2);
  $("editor").classList.toggle("with-history", rounds.length > 1);
  $("history").replaceChildren(...ways.map((each) => {
    const current = each.number ? shown.number > 0 && firstFill(shown) === firstFill(each) : round === 0;
    const number = current ? round : each.number, label = number ? t("round", { n: number }) : t("original");
    const entry = element("div", { className: "entry" }, shownRound(photo, number, label, number ? String(number) : label, current, choose));
    if (current && number) {
      const words = `${t("deleteRound")} (${label})`, cross = element("button", { className: "cross", type: "button", title: words, "aria-label": words }, icon("close"));
      cross.onclick = () => attempt(() => drop(number));
      entry.append(cross);
    }
    return entry;
  }));
  $("history").querySelector('[aria-current="true"]')?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

/** The fills of the hole that the shown round filled, and a button for one more. */
export function showFills(state, { choose, another }) {
  const { photo, round } = state, shown = roundOf(round);
  $("fills").hidden = !shown?.number;
  if (!shown?.number) return;
  const fills = fillsOf(shown), coming = photo.jobs.filter((job) => job.variant_of === firstFill(shown)).length;
  const more = element("button", { type: "button", className: "plain", title: t("anotherHelp"), textContent: t("another") });
  more.id = "another";
  more.disabled = fills.length + coming >= MOST_FILLS;
  more.onclick = () => attempt(another);
  const shots = fills.length < 2 ? [] : fills.map((fill, at) => shownRound(photo, fill.number, t("fill", { n: at + 1 }), String(at + 1), fill.number === round, choose));
  $("fills").replaceChildren(...shots, more);
}

/** What the result can be downloaded as, and what each format loses. */
export function showFormats(state) {
  $("format-list").replaceChildren(...state.formats.map(({ suffix, name, loses }) => {
    const button = element("button", { type: "button", role: "menuitem" }, `${name} (${suffix})`, ...loses.map((line) => element("small", { textContent: line })));
    button.onclick = () => download(state, suffix);
    return button;
  }));
}

export function download(state, suffix) {
  const query = suffix ? `?suffix=${encodeURIComponent(suffix)}` : "";
  element("a", { href: `api/photos/${state.photo.id}/rounds/${state.round}/file${query}`, download: "" }).click();
  $("format-list").hidden = true;
  $("formats").setAttribute("aria-expanded", "false");
}

/** Model, preset and device, then every setting that the server offers. */
export function showForm(state, changed) {
  const { config, choices } = state;
  const select = (name, options, value) => {
    const node = element("select", { name });
    node.append(...options.map(({ value: each, label }) => element("option", { value: each, textContent: label, selected: each === value })));
    node.onchange = () => { choices[name] = node.value; changed(); };
    return element("label", { className: "wide" }, element("span", { textContent: t(name) }), node);
  };
  const named = (values) => values.map((value) => ({ value, label: value }));
  const rows = [
    select("model", config.models, choices.model ?? config.defaults.model),
    select("preset", config.presets, choices.preset ?? config.defaults.preset),
    select("device", named(config.devices), choices.device ?? config.defaults.device),
  ];
  const fields = config.settings.map((setting) => settingRow(setting, choices, changed));
  const detail = element("details", {}, element("summary", { textContent: t("tuning") }), ...fields);
  detail.open = Object.keys(choices.settings).length > 0;
  $("form").replaceChildren(...rows, detail);
}

function settingRow({ name, kind, choices: offered, summary, value, most }, choices, changed) {
  const given = choices.settings[name], now = given ?? value;
  let input;
  if (kind === "bool") input = element("input", { type: "checkbox", checked: Boolean(now) });
  else if (kind === "choice") {
    input = element("select");
    input.append(...offered.map((each) => element("option", { value: each, textContent: each, selected: each === now })));
  } else if (kind === "counts") input = element("input", { type: "text", value: [now].flat().join(", "), pattern: "[0-9]+( *, *[0-9]+)*", autocomplete: "off" });
  else if (kind === "str") input = element("input", { type: "text", value: now ?? "", placeholder: t("byDefault") });
  else input = element("input", { type: "number", step: kind === "int" ? 1 : "any", min: 0, ...(most ? { max: most } : {}), value: now ?? "", placeholder: t("byModel") });
  input.name = name;
  input.onchange = () => {
    if (kind === "counts" && !input.reportValidity()) return;
    const read = kind === "bool" ? input.checked : input.value === "" ? null : kind === "int" ? Math.round(Number(input.value)) : kind === "float" ? Number(input.value) : kind === "counts" ? counts(input.value) : input.value;
    if (String(read) === String(value) || read === null) delete choices.settings[name];
    else choices.settings[name] = read;
    changed();
  };
  return element("label", { className: "wide", title: summary ?? "" }, element("span", { textContent: settingName(name) }), input);
}

/** "12, 8, 4" as whole numbers by scale; one alone as itself. */
function counts(text) {
  const numbers = text.split(",").map(Number);
  return numbers.length > 1 ? numbers : numbers[0];
}

/** The plan in one line. */
export function planLine(plan) {
  const [width, height] = plan.largest, parts = [];
  if (plan.seconds != null) parts.push(t("planTime", { time: duration(plan.seconds) }));
  parts.push(plan.whole ? t("planWhole") : plan.windows > 1 ? t("planWindows", { count: plan.windows, width, height }) : t("planWindow", { width, height }));
  if (plan.bytes) parts.push(t("planMemory", { memory: plan.bytes >= 1e9 ? `${(plan.bytes / 1e9).toFixed(1)} GB` : `${Math.round(plan.bytes / 1e6)} MB` }));
  return [parts.join(" · "), ...plan.warnings].join(" — ");
}
