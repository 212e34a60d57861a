// What all parts of the page share: what is known, what is shown, and small helpers.

export const $ = (id) => document.getElementById(id);

export const state = {
  config: null, photo: null, round: 0, picture: null, original: null, overlays: [], formats: [],
  marks: null, tool: "brush", size: 60, grow: 6, feather: 0, choices: { settings: {} },
  job: null, comparing: false, split: 0.5, holding: false, outlined: null,
  visit: 0, // counts openings and leavings, see `stillHere`
  redoRounds: [], // numbers of the rounds that Ctrl+Z went back from
  painted: new Map(), // by round, the marks that it was made from
};

/** A function that says whether the photo that is open now still is: whatever waits must ask before it goes on. */
export function stillHere() {
  const { visit, photo } = state;
  return () => state.visit === visit && state.photo !== null && photo !== null;
}

export function element(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

/** An icon of the page's own. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Do something that may be refused; a refusal is shown. */
export async function attempt(task) {
  try { return await task(); } catch (error) { toast(error.message, { lasting: true }); }
}

let toastTimer;
/** A line over the page; `action`, a label and what it does, becomes a button beside it. */
export function toast(text, { lasting = false, action = null } = {}) {
  const parts = [element("span", { textContent: text })];
  if (action) {
    const button = element("button", { type: "button", textContent: action.label });
    button.onclick = () => { hideToast(); action.run(); };
    parts.push(button);
  }
  $("toast").replaceChildren(...parts);
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(hideToast, lasting || action ? 12000 : 5000);
}

export function hideToast() {
  clearTimeout(toastTimer);
  $("toast").hidden = true;
}

/** The line above the tools. */
export function say(text, bad = false) {
  $("plan").textContent = text;
  $("plan").title = text;
  $("plan").classList.toggle("bad", bad);
}

/** For who does not see the page. */
export function speak(text) {
  $("speech").textContent = text;
}

/** Ask before something that cannot be taken back. */
export function confirmed(text, label) {
  const dialog = $("confirm");
  $("confirm-text").textContent = text;
  $("confirm-yes").textContent = label;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

const channel = "BroadcastChannel" in window ? new BroadcastChannel("refiner") : null;
/** Tell the other tabs of this browser that a photo, its rounds or its jobs changed. */
export const tellTabs = (photo) => channel?.postMessage({ photo });
/** Called with the id of a photo that another tab changed. */
export function onTold(heard) {
  if (channel) channel.onmessage = (event) => heard(event.data.photo);
}
