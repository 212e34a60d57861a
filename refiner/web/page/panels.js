// What stands around the canvas: history, formats to download, and the settings under "More".

import { duration, settingName, t } from "./strings.js";

const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

/** A strip of all rounds; a click goes back to one. */
export function showHistory(state, choose) {
  const rounds = state.photo.rounds;
  $("history").hidden = rounds.length < 2;
  $("editor").classList.toggle("with-history", rounds.length > 1);
  $("history").replaceChildren(...rounds.map((round) => {
    const label = round.number ? t("round", { n: round.number }) : t("original");
    const image = element("img", { src: `api/photos/${state.photo.id}/rounds/${round.number}/thumbnail`, alt: "" });
    const button = element("button", { type: "button", title: label, "aria-label": label }, image, element("span", { textContent: round.number ? String(round.number) : label }));
    button.setAttribute("aria-current", String(round.number === state.round));
    button.onclick = () => choose(round.number);
    return button;
  }));
  $("history").querySelector('[aria-current="true"]')?.scrollIntoView({ block: "nearest", inline: "nearest" });
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
