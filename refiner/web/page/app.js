// The page: connects buttons, keys and everything else, and opens the photo that the address names.

import { get } from "./api.js";
import { stage, view } from "./board.js";
import { loadMask, marked, overlay, addMask, lastMask, saveMask, shadow, snap } from "./masks.js";
import { deletePhoto, describe, leave, lost, openFile, openPhoto, refresh, showStart } from "./opening.js";
import { download, showForm, showFormats } from "./panels.js";
import { another, badge, chooseFill, deleteRound, redoRound, setComparing, setHolding, setSplit, showRounds, toggleOutline, undoRound } from "./rounds.js";
import { $, attempt, onTold, state, toast } from "./shared.js";
import { chooseLanguage, language, languages, t, translatePage } from "./strings.js";
import { chooseTool, resizeBrush, showEdge, slid, toggleDrawer } from "./tools.js";
import { work } from "./work.js";

window.refinerPage = { state, view, stage, work, overlay }; // for tests and for the curious

const zoomed = (scale) => { view.zoomTo(scale); stage.look(); };
const step = (task) => { if (!state.photo || state.job) return; task(); marked(); };
const actions = {
  undo: () => step(() => (state.marks.done.length ? state.marks.undo() : undoRound())),
  redo: () => step(() => (state.marks.undone.length ? state.marks.redo() : redoRound())),
  clear: () => step(() => state.marks.clear()),
  "zoom-in": () => zoomed(view.scale * 1.3), "zoom-out": () => zoomed(view.scale / 1.3), "zoom-value": () => zoomed(1),
  "zoom-fit": () => { view.fit(); stage.look(); },
  snap, shadow, remove: () => work.start(), stop: () => attempt(() => work.stop()), cancel: () => attempt(() => work.cancel()),
  compare: () => setComparing(!state.comparing), outline: () => toggleOutline(!state.outlined),
  more: () => toggleDrawer(), "drawer-close": () => toggleDrawer(false),
  help: () => $("keys").showModal(), "keys-close": () => $("keys").close(),
  open: () => $("file").click(), choose: () => $("file").click(), home: () => (state.photo ? leave() : $("file").click()),
  download: () => download(state), "mask-load": () => $("mask-file").click(), "mask-save": () => attempt(saveMask),
  "mask-last": () => attempt(() => addMask({ id: lastMask().mask }, t("maskLoaded"))),
  "round-delete": () => attempt(() => deleteRound(state.round)),
  "photo-delete": () => attempt(() => deletePhoto(state.photo)),
  formats: () => { $("format-list").hidden = !$("format-list").hidden; $("formats").setAttribute("aria-expanded", String(!$("format-list").hidden)); },
};

const one = () => { if (!chooseFill(0)) actions["zoom-value"](); };
const KEYS = {
  b: () => chooseTool("brush"), e: () => chooseTool("eraser"), r: () => chooseTool("rectangle"), l: () => chooseTool("lasso"), w: () => chooseTool("select"),
  "[": () => resizeBrush(state.size / 1.15 - 0.5), "]": () => resizeBrush(state.size * 1.15 + 0.5),
  "+": actions["zoom-in"], "=": actions["zoom-in"], "-": actions["zoom-out"], 0: actions["zoom-fit"], z: actions["zoom-value"],
  1: one, 2: () => chooseFill(1), 3: () => chooseFill(2), 4: () => chooseFill(3), a: () => attempt(another),
  s: snap, d: shadow, m: () => toggleDrawer(), Delete: actions.clear, Backspace: actions.clear, "?": actions.help,
  c: () => state.round && actions.compare(), o: () => state.round && actions.outline(), h: () => setHolding(true),
};
const WHILE_WORKING = "+=-0z1234ah?"; // keys that have an effect then

function pressed(event) {
  const field = event.target.closest?.("input, select, dialog, [role=slider]");
  if (event.key === "Escape") return document.querySelector("dialog[open]") ? undefined : escape();
  if (!state.photo || (field && field.type !== "range")) return;
  const control = event.ctrlKey || event.metaKey, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (control && key === "Enter") return work.start();
  if (control && (key === "z" || key === "y")) {
    event.preventDefault();
    (key === "y" || event.shiftKey ? actions.redo : actions.undo)();
  } else if (key === " " && event.target === stage.node) {
    event.preventDefault();
    stage.space = true;
    stage.node.classList.add("pan");
    stage.frame();
  } else if (!control && !event.altKey && KEYS[key] && !(field && key.length > 1)) {
    if (state.job && !WHILE_WORKING.includes(key)) return;
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

function speakAnother(name) {
  chooseLanguage(name);
  if (state.photo) { describe(); showFormats(state); showRounds(); marked(); badge(); } else showStart();
  showForm(state, marked);
}

function listenToPointers() {
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
}

function listen() {
  for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", action);
  for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => chooseTool(button.dataset.tool);
  $("size").oninput = slid;
  for (const name of ["grow", "feather"]) $(name).oninput = () => { state[name] = Number($(name).value); showEdge(); marked(); };
  $("file").onchange = () => { openFile($("file").files[0], begun); $("file").value = ""; };
  $("mask-file").onchange = () => {
    const [file] = $("mask-file").files;
    $("mask-file").value = "";
    if (file) loadMask(file);
  };
  $("language").onchange = () => speakAnother($("language").value);
  $("form").onsubmit = (event) => event.preventDefault();
  listenToPointers();
  addEventListener("keydown", pressed);
  addEventListener("keydown", () => document.body.classList.add("keys"), true);
  addEventListener("pointerdown", () => document.body.classList.remove("keys"), true);
  addEventListener("keyup", (event) => {
    if (event.key === " ") { stage.space = false; stage.node.classList.toggle("pan", state.comparing || Boolean(state.job)); stage.frame(); }
    setHolding(false);
  });
  addEventListener("paste", (event) => { const [file] = event.clipboardData.files; if (file) openFile(file, begun); });
  addEventListener("dragover", (event) => { event.preventDefault(); $("dropping").hidden = false; });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("dropping").hidden = true; });
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("dropping").hidden = true;
    const [file] = event.dataTransfer.files;
    file ? openFile(file, begun) : toast(t("noFile"));
  });
  addEventListener("click", (event) => { if (!event.target.closest("#save") && !$("format-list").hidden) actions.formats(); });
  addEventListener("hashchange", goTo);
  addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  onTold((photo) => { if (state.photo?.id === photo) refresh(); else if (!state.photo) showStart(); });
}

/** Open the photo that the address names, unless it is open: the way back and forth in the browser. */
async function goTo() {
  const id = location.hash.slice(1);
  if (id === (state.photo?.id ?? "")) return;
  if (!id) return leave();
  const { visit } = state, photo = await get(`api/photos/${encodeURIComponent(id)}`).catch(() => null);
  if (state.visit !== visit) return;
  if (photo) await openPhoto(photo);
  else if (state.photo) lost();
  else { leave(); toast(t("gone"), { lasting: true }); }
}

async function begin() {
  $("language").append(...languages.map(([name, label]) => new Option(label, name, false, name === language())));
  translatePage();
  listen();
  state.config = await get("api/config");
  chooseTool("brush");
  showEdge();
  showForm(state, marked);
  resizeBrush(state.size);
  if (!state.config.snap) $("snap").title = t("snapMissing");
  if (location.hash.length > 1) await goTo();
  else leave();
}

const begun = attempt(begin);
