// The page: opens a photo, keeps what is known of it, and connects everything.

import { get, post, upload } from "./api.js";
import { Marks } from "./marks.js";
import { download, element, planLine, showForm, showFormats, showHistory } from "./panels.js";
import { Picture } from "./picture.js";
import { Stage } from "./stage.js";
import { duration, switchLanguage, t, translatePage } from "./strings.js";
import { View } from "./view.js";
import { Work } from "./work.js";

const $ = (id) => document.getElementById(id);
const state = {
  config: null, photo: null, round: 0, picture: null, original: null, overlays: [], formats: [],
  marks: null, tool: "brush", size: 60, grow: 6, feather: 0, choices: { settings: {} },
  job: null, comparing: false, split: 0.5, holding: false, outlined: null, plan: null,
};
const overlays = new Map(); // images of masks by their id
const view = new View();
const stage = new Stage(state, view, {
  began: () => { $("tip").hidden = true; if (state.outlined) toggleOutline(false); },
  drawn: (mark) => { state.marks.add(mark); marked(); },
  sized: (factor) => resizeBrush(state.size * factor),
  looked: () => { $("zoom-value").textContent = `${Math.round(100 * view.scale)} %`; placeHandle(); },
  said: speak,
});
const work = new Work(state, { shown: showScale, over: workOver, changed: showWork, problem: toast });
window.refinerPage = { state, view, stage, work }; // for tests and for the curious

// --- opening -------------------------------------------------------------------------------------------------

async function openFile(file) {
  if (!file) return;
  await begun; // a file can be dropped before the server has answered
  const { upload_bytes: most } = state.config;
  if (file.size > most) return toast(t("tooBig", { name: file.name, size: Math.round(file.size / 1e6), most: Math.round(most / 1e6) }));
  leave();
  $("uploading").hidden = false;
  const title = document.querySelector("#drop h2"), tell = (share) => {
    $("uploading").firstElementChild.style.width = `${100 * share}%`;
    title.textContent = share < 1 ? t("uploading", { percent: Math.round(100 * share) }) : t("reading");
  };
  tell(0);
  await attempt(async () => openPhoto(await upload(`api/photos?name=${encodeURIComponent(file.name)}`, file, tell)));
  $("uploading").hidden = true;
  title.textContent = t("startTitle");
}

async function openExample(name) {
  const photo = await post(`api/examples/${encodeURIComponent(name)}`);
  await openPhoto(photo);
  if (photo.loaded) await addMask(photo.loaded, t("maskLoaded"));
}

async function openPhoto(photo) {
  Object.assign(state, { photo, job: null, overlays: [], comparing: false, holding: false, outlined: null, plan: null });
  location.hash = photo.id;
  document.title = `${photo.name} – refiner`;
  state.marks = new Marks((id) => overlays.get(id));
  restore();
  Object.assign(view, { photoWidth: photo.width, photoHeight: photo.height, fitted: true });
  $("start").hidden = true;
  for (const id of ["editor", "save", "open"]) $(id).hidden = false;
  if (!state.fromBefore) resizeBrush(Math.max(photo.width, photo.height) / 32);
  state.original = new Picture(photo, 0, state.config, () => stage.look());
  chooseRound(photo.rounds.length - 1);
  stage.resize();
  view.fit();
  stage.look();
  state.formats = await get(`api/photos/${photo.id}/formats`);
  showFormats(state);
  describe();
  await loadOverlays();
  if (photo.jobs.length) work.follow(photo.jobs[0]);
  marked();
  stage.node.focus({ preventScroll: true });
}

function leave() {
  work.source?.close();
  Object.assign(state, { photo: null, job: null, picture: null });
  $("start").hidden = false;
  for (const id of ["editor", "save", "open"]) $(id).hidden = true;
  $("name").textContent = "";
  $("drawer").hidden = true;
  document.title = "refiner";
  if (location.hash) history.replaceState(null, "", location.pathname);
  showStart();
}

function describe() {
  const { photo, formats } = state, kind = photo.format ?? "";
  $("name").textContent = `${photo.name} · ${photo.width} × ${photo.height} · ${kind} ${photo.mode} · ${t("bits", { depth: photo.depth })}`;
  $("facts").textContent = [...photo.notes, ...(formats[0]?.loses ?? [])].join(" ");
}

async function showStart() {
  const { config } = state, photos = await get("api/photos").catch(() => []);
  const values = { megapixels: config.megapixels, hours: Math.round(config.keep_seconds / 3600) || "<1" };
  Object.assign(document.querySelector('[data-t="startHint"]').dataset, values);
  const card = (image, name, click) => {
    const button = element("button", { className: "card", type: "button" }, element("img", { src: image, alt: "" }), element("span", { textContent: name }));
    button.onclick = () => attempt(click);
    return button;
  };
  $("example-list").replaceChildren(...config.examples.map((name) => card(`api/examples/${encodeURIComponent(name)}`, name, () => openExample(name))));
  $("examples").hidden = !config.examples.length;
  $("recent-list").replaceChildren(...photos.slice(0, 6).map((photo) => card(`api/photos/${photo.id}/rounds/${photo.rounds.length - 1}/thumbnail`, photo.name, () => openPhoto(photo))));
  $("recent").hidden = !photos.length;
  translatePage();
}

// --- rounds --------------------------------------------------------------------------------------------------

function chooseRound(number) {
  state.round = number;
  state.picture = number ? new Picture(state.photo, number, state.config, () => stage.look()) : state.original;
  state.picture.ready.catch(lost);
  const made = state.photo.rounds[number];
  $("mask-last").disabled = !lastMask();
  $("compare-group").hidden = state.photo.rounds.length < 2;
  for (const id of ["compare", "hold", "outline"]) $(id).disabled = !number;
  if (!number && state.comparing) setComparing(false);
  if (state.outlined) toggleOutline(Boolean(made.mask));
  showHistory(state, chooseRound);
  badge();
  stage.look();
  marked();
}

const lastMask = () => (state.photo.rounds[state.round].mask ? state.photo.rounds[state.round] : state.photo.rounds.findLast((round) => round.mask));

function badge() {
  const shown = state.holding ? t("original") : state.comparing ? "" : state.round ? t("round", { n: state.round }) : "";
  $("badge").textContent = shown;
  $("badge").hidden = !shown || Boolean(state.job);
}

function setComparing(on) {
  state.comparing = on;
  $("compare").setAttribute("aria-pressed", String(on));
  $("handle").hidden = !on;
  stage.node.classList.toggle("pan", on);
  badge();
  placeHandle();
  stage.look();
}

function setHolding(on) {
  if (on === state.holding || !state.round) return;
  state.holding = on;
  badge();
  stage.look();
}

async function toggleOutline(on) {
  const mask = state.photo.rounds[state.round].mask;
  state.outlined = on && mask ? await overlay(mask) : null;
  $("outline").setAttribute("aria-pressed", String(Boolean(state.outlined)));
  stage.frame();
}

function placeHandle() {
  $("handle").style.left = `${100 * state.split}%`;
  $("handle").setAttribute("aria-valuenow", Math.round(100 * state.split));
}

function setSplit(share) {
  state.split = Math.min(Math.max(share, 0), 1);
  placeHandle();
  stage.look();
}

// --- masks ---------------------------------------------------------------------------------------------------

async function overlay(id) {
  if (!overlays.has(id)) {
    const image = new Image();
    image.src = `api/photos/${state.photo.id}/masks/${id}?overlay`;
    await image.decode();
    overlays.set(id, image);
  }
  return overlays.get(id);
}

async function loadOverlays() {
  for (const mark of state.marks.done) if (mark.kind === "mask") await overlay(mark.id).catch(() => {});
  stage.remask();
}

async function addMask({ id }, text, replace = false) {
  await overlay(id);
  if (replace) state.marks.clear();
  state.marks.add({ kind: "mask", id });
  marked();
  stage.remask();
  speak(text);
}

let planTimer, planAbort;
/** The marks, or what is done with them, changed. */
function marked() {
  const { marks, photo } = state;
  if (!photo) return;
  $("undo").disabled = !marks.done.length;
  $("redo").disabled = !marks.undone.length;
  $("clear").disabled = marks.empty;
  $("snap").disabled = marks.empty || !state.config.snap;
  $("mask-save").disabled = marks.empty;
  $("remove").disabled = marks.empty || Boolean(state.job);
  const kept = { done: marks.done, size: state.size, grow: state.grow, feather: state.feather, choices: state.choices };
  try { localStorage.setItem(`refiner-${photo.id}`, JSON.stringify(kept)); } catch { /* full: only a reload would miss it */ }
  stage.remask();
  clearTimeout(planTimer);
  planAbort?.abort();
  if (marks.empty) return say([t("hint"), ...(state.formats[0]?.loses.slice(0, 1) ?? [])].join(" "));
  if (state.job) return;
  planTimer = setTimeout(makePlan, 500);
}

function restore() {
  const kept = JSON.parse(localStorage.getItem(`refiner-${state.photo.id}`) ?? "null");
  state.fromBefore = Boolean(kept);
  if (!kept) return;
  state.marks.done = kept.done;
  Object.assign(state, { grow: kept.grow, feather: kept.feather, choices: kept.choices });
  resizeBrush(kept.size);
  showEdge();
  showForm(state, marked);
}

async function makePlan() {
  planAbort = new AbortController();
  say(t("planning"));
  try {
    const plan = await post(`api/photos/${state.photo.id}/plan`, asked(), planAbort.signal);
    if (!state.job) say(planLine(plan), plan.warnings.length > 0);
  } catch (error) {
    if (error.name !== "AbortError") say(error.message, true);
  }
}

function asked() {
  const { marks, round, grow, feather, choices } = state;
  return { round, marks: marks.toSend, grow, feather, ...choices };
}

async function snap() {
  if (state.marks.empty || !state.config.snap || state.job) return;
  say(t("snapping"));
  $("snap").disabled = true;
  await attempt(async () => addMask(await post(`api/photos/${state.photo.id}/snap`, { round: state.round, marks: state.marks.toSend }), t("snapped"), true));
  $("snap").disabled = state.marks.empty;
}

async function saveMask() {
  const made = await post(`api/photos/${state.photo.id}/masks`, { marks: state.marks.toSend });
  element("a", { href: `api/photos/${state.photo.id}/masks/${made.id}`, download: "" }).click();
}

// --- the work ------------------------------------------------------------------------------------------------

async function remove() {
  if (state.marks.empty || state.job) return;
  setComparing(false);
  if (state.outlined) toggleOutline(false);
  $("remove").disabled = true;
  await attempt(() => work.start(asked()));
  $("remove").disabled = state.marks.empty;
}

function showScale(image, box) {
  state.overlays = [{ image, box }];
  stage.look();
}

function showWork() {
  const busy = Boolean(state.job);
  $("working").classList.toggle("off", !busy);
  document.querySelector(".dock .row").classList.toggle("off", busy);
  $("plan").classList.toggle("off", busy);
  stage.node.classList.toggle("pan", busy);
  badge();
  if (busy) stage.remask();
}

async function workOver(snapshot, photo) {
  showWork();
  if (photo) state.photo = photo;
  if (snapshot.state === "done") {
    const round = photo?.rounds[snapshot.round];
    chooseRound(snapshot.round);
    await state.picture.ready.catch(() => {});
    state.marks = new Marks((id) => overlays.get(id));
    const words = [t(round?.stopped ? "stopped" : "done", { time: duration(round?.seconds ?? snapshot.seconds) })];
    if (round?.saved) words.push(t("saved", { name: round.saved }));
    toast(words.join(" "));
  } else if (snapshot.state === "gone") lost();
  else if (snapshot.state === "interrupted") { chooseRound(Math.min(state.round, state.photo.rounds.length - 1)); toast(t("interrupted"), true); }
  else toast(snapshot.state === "failed" ? snapshot.error : t("canceled"), snapshot.state === "failed");
  state.overlays = [];
  stage.look();
  marked();
}

// --- small things --------------------------------------------------------------------------------------------

async function attempt(task) {
  try { return await task(); } catch (error) { toast(error.message, true); }
}

function lost() {
  if (!state.photo) return;
  leave();
  toast(t("gone"), true);
}

let toastTimer;
function toast(text, lasting = false) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, lasting ? 12000 : 5000);
}

function say(text, bad = false) {
  $("plan").textContent = text;
  $("plan").title = text;
  $("plan").classList.toggle("bad", bad);
}

function speak(text) {
  $("speech").textContent = text;
}

const SLIDER = 1000; // positions, from 1 to 1000 pixels, evenly by ratio
function resizeBrush(size) {
  state.size = Math.min(Math.max(Math.round(size), 1), 1000);
  $("size").value = Math.round((SLIDER * Math.log(state.size)) / Math.log(1000));
  $("size").setAttribute("aria-valuetext", `${state.size} px`);
  $("size-value").textContent = `${state.size} px`;
  stage.frame();
}

function chooseTool(tool) {
  state.tool = tool;
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-checked", String(button.dataset.tool === tool));
  stage.frame();
}

function showEdge() {
  for (const name of ["grow", "feather"]) {
    $(name).value = state[name];
    $(`${name}-value`).textContent = `${state[name]} px`;
  }
}

function toggleDrawer(open = $("drawer").hidden) {
  $("drawer").hidden = !open;
  $("more").setAttribute("aria-expanded", String(open));
  (open ? $("drawer-close") : $("more")).focus();
}

const zoomed = (scale) => { view.zoomTo(scale); stage.look(); };
const step = (task) => { task(); marked(); };
const actions = {
  undo: () => step(() => state.marks.undo()), redo: () => step(() => state.marks.redo()), clear: () => step(() => state.marks.clear()),
  "zoom-in": () => zoomed(view.scale * 1.3), "zoom-out": () => zoomed(view.scale / 1.3), "zoom-value": () => zoomed(1),
  "zoom-fit": () => { view.fit(); stage.look(); },
  snap, remove, stop: () => attempt(() => work.stop()), cancel: () => attempt(() => work.cancel()),
  compare: () => setComparing(!state.comparing), outline: () => toggleOutline(!state.outlined),
  more: () => toggleDrawer(), "drawer-close": () => toggleDrawer(false),
  help: () => $("keys").showModal(), "keys-close": () => $("keys").close(),
  open: () => $("file").click(), choose: () => $("file").click(), home: () => (state.photo ? leave() : $("file").click()),
  download: () => download(state), "mask-load": () => $("mask-file").click(), "mask-save": () => attempt(saveMask),
  "mask-last": () => attempt(() => addMask({ id: lastMask().mask }, t("maskLoaded"))),
  language: () => { switchLanguage(); if (state.photo) { describe(); showHistory(state, chooseRound); marked(); badge(); } else showStart(); showForm(state, marked); },
  formats: () => { $("format-list").hidden = !$("format-list").hidden; $("formats").setAttribute("aria-expanded", String(!$("format-list").hidden)); },
};

const KEYS = {
  b: () => chooseTool("brush"), e: () => chooseTool("eraser"), r: () => chooseTool("rectangle"), l: () => chooseTool("lasso"),
  "[": () => resizeBrush(state.size / 1.15 - 0.5), "]": () => resizeBrush(state.size * 1.15 + 0.5),
  "+": actions["zoom-in"], "=": actions["zoom-in"], "-": actions["zoom-out"], 0: actions["zoom-fit"], 1: actions["zoom-value"],
  s: snap, m: () => toggleDrawer(), Delete: actions.clear, Backspace: actions.clear, "?": actions.help,
  c: () => state.round && actions.compare(), o: () => state.round && actions.outline(), h: () => setHolding(true),
};

function pressed(event) {
  const field = event.target.closest?.("input, select, dialog, [role=slider]");
  if (event.key === "Escape") return escape();
  if (!state.photo || (field && field.type !== "range")) return;
  const control = event.ctrlKey || event.metaKey, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (control && key === "Enter") return remove();
  if (control && (key === "z" || key === "y")) {
    event.preventDefault();
    if (!state.job) (key === "y" || event.shiftKey ? actions.redo : actions.undo)();
  } else if (key === " " && event.target === stage.node) {
    event.preventDefault();
    stage.space = true;
    stage.node.classList.add("pan");
    stage.frame();
  } else if (!control && !event.altKey && KEYS[key] && !(field && key.length > 1)) {
    if (state.job && !"+=-01h?".includes(key)) return;
    event.preventDefault();
    KEYS[key]();
  }
}

function escape() {
  if (!$("format-list").hidden) actions.formats();
  else if (!$("drawer").hidden) toggleDrawer(false);
  else if (state.comparing) setComparing(false);
  else if (state.job) actions.cancel();
  else stage.drop();
}

function listen() {
  for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", action);
  for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => chooseTool(button.dataset.tool);
  $("size").oninput = () => resizeBrush(1000 ** ($("size").value / SLIDER));
  for (const name of ["grow", "feather"]) $(name).oninput = () => { state[name] = Number($(name).value); showEdge(); marked(); };
  $("file").onchange = () => { openFile($("file").files[0]); $("file").value = ""; };
  $("mask-file").onchange = () => {
    const [file] = $("mask-file").files;
    attempt(async () => addMask(await upload(`api/photos/${state.photo.id}/masks`, file, () => {}), t("maskLoaded")));
    $("mask-file").value = "";
  };
  $("form").onsubmit = (event) => event.preventDefault();
  const hold = $("hold");
  hold.onpointerdown = () => setHolding(true);
  for (const name of ["pointerup", "pointerleave", "blur"]) hold.addEventListener(name, () => setHolding(false));
  hold.onkeydown = (event) => { if (event.key === " " || event.key === "Enter") setHolding(true); };
  const handle = $("handle"), share = (event) => (event.clientX - stage.node.getBoundingClientRect().left) / stage.node.clientWidth;
  handle.onpointerdown = (event) => { handle.setPointerCapture(event.pointerId); event.stopPropagation(); };
  handle.onpointermove = (event) => { if (handle.hasPointerCapture(event.pointerId)) setSplit(share(event)); };
  handle.onkeydown = (event) => {
    const by = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key];
    if (by) { event.preventDefault(); setSplit(state.split + by); }
  };
  addEventListener("keydown", pressed);
  addEventListener("keydown", () => document.body.classList.add("keys"), true);
  addEventListener("pointerdown", () => document.body.classList.remove("keys"), true);
  addEventListener("keyup", (event) => {
    if (event.key === " ") { stage.space = false; stage.node.classList.toggle("pan", state.comparing || Boolean(state.job)); stage.frame(); }
    setHolding(false);
  });
  addEventListener("paste", (event) => { const [file] = event.clipboardData.files; if (file) openFile(file); });
  addEventListener("dragover", (event) => { event.preventDefault(); $("dropping").hidden = false; });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("dropping").hidden = true; });
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("dropping").hidden = true;
    const [file] = event.dataTransfer.files;
    file ? openFile(file) : toast(t("noFile"));
  });
  addEventListener("click", (event) => { if (!event.target.closest("#save") && !$("format-list").hidden) actions.formats(); });
}

async function begin() {
  translatePage();
  listen();
  state.config = await get("api/config");
  chooseTool("brush");
  showEdge();
  showForm(state, marked);
  resizeBrush(state.size);
  if (!state.config.snap) $("snap").title = t("snapMissing");
  const id = location.hash.slice(1);
  const photo = id ? await get(`api/photos/${encodeURIComponent(id)}`).catch(() => null) : null;
  if (photo) await openPhoto(photo);
  else {
    leave();
    if (id) toast(t("gone"), true);
  }
}

const begun = attempt(begin);
