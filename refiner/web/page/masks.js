// What is painted: masks as files, proposals of the server, and the plan for the mask as it is.

import { post, upload } from "./api.js";
import { planLine, showForm } from "./panels.js";
import { canRedoRound, canUndoRound, roundOf } from "./rounds.js";
import { $, attempt, element, say, speak, state, stillHere, toast } from "./shared.js";
import { stage } from "./board.js";
import { t } from "./strings.js";
import { resizeBrush, showEdge } from "./tools.js";

export const overlays = new Map(); // images of masks by their id

export const lastMask = () => {
  const shown = roundOf(state.round);
  return shown?.mask ? shown : state.photo.rounds.findLast((round) => round.mask);
};

export async function overlay(id) {
  if (!overlays.has(id)) {
    const here = stillHere(), image = new Image();
    image.src = `api/photos/${state.photo.id}/masks/${id}?overlay`;
    await image.decode();
    if (here()) overlays.set(id, image);
  }
  return overlays.get(id);
}

export async function loadOverlays() {
  const here = stillHere();
  for (const mark of state.marks.done) if (mark.kind === "mask") await overlay(mark.id).catch(() => {});
  if (here()) stage.remask();
}

/** Add a mask that the server keeps, with what else is to be noted of it. */
export async function addMask({ id }, text, { replace = false, ...noted } = {}) {
  const here = stillHere();
  await overlay(id);
  if (!here()) return;
  if (replace) state.marks.clear();
  state.marks.add({ kind: "mask", id, ...noted });
  marked();
  stage.remask();
  speak(text);
}

/** While nothing is marked: what to do, and what the photo's format cannot hold; one of both where there is no room. */
function whatToKnow() {
  const words = [t("hint"), ...(state.formats[0]?.loses.slice(0, 1) ?? [])];
  if (!matchMedia("(max-width: 900px), (max-height: 500px)").matches) return words.join(" ");
  return words.at(state.photo.rounds.length > 1 ? -1 : 0);
}

let planTimer, planAbort;
/** The marks, or what is done with them, changed. */
export function marked() {
  const { marks, photo } = state;
  if (!photo) return;
  const busy = Boolean(state.job);
  $("undo").disabled = busy || !(marks.done.length || canUndoRound());
  $("redo").disabled = busy || !(marks.undone.length || canRedoRound());
  $("clear").disabled = marks.empty;
  $("snap").disabled = marks.empty || !state.config.snap;
  $("shadow").disabled = marks.empty;
  $("mask-save").disabled = marks.empty;
  $("remove").disabled = marks.empty || busy;
  const kept = { done: marks.done, size: state.size, grow: state.grow, feather: state.feather, choices: state.choices };
  try { localStorage.setItem(`refiner-${photo.id}`, JSON.stringify(kept)); } catch { /* full: only a reload would miss it */ }
  stage.remask();
  clearTimeout(planTimer);
  planAbort?.abort();
  if (marks.empty) return say(whatToKnow());
  if (busy) return;
  planTimer = setTimeout(makePlan, 500);
}

export function restore() {
  let kept = null;
  try { kept = JSON.parse(localStorage.getItem(`refiner-${state.photo.id}`) ?? "null"); } catch { /* damaged: start anew */ }
  state.fromBefore = Boolean(kept);
  if (!kept) return;
  state.marks.done = kept.done;
  Object.assign(state, { grow: kept.grow, feather: kept.feather, choices: kept.choices });
  resizeBrush(kept.size);
  showEdge();
  showForm(state, marked);
}

async function makePlan() {
  const here = stillHere(), own = (planAbort = new AbortController());
  if (!here()) return;
  say(t("planning"));
  try {
    const plan = await post(`api/photos/${state.photo.id}/plan`, asked(), own.signal);
    if (here() && !state.job && planAbort === own) say(planLine(plan), plan.warnings.length > 0);
  } catch (error) {
    if (here() && error.name !== "AbortError" && planAbort === own) say(error.message, true);
  }
}

export function asked() {
  const { marks, round, grow, feather, choices } = state;
  return { round, marks: marks.toSend, grow, feather, ...choices };
}

/** Have the server make a mask of what is marked: the outline under a scribble, or what a shadow adds to it. */
async function propose(what, doing, text, replace) {
  if (state.marks.empty || state.job || $(what).disabled) return;
  const here = stillHere(), count = state.marks.done.length;
  say(t(doing));
  $(what).disabled = true;
  await attempt(async () => {
    const made = await post(`api/photos/${state.photo.id}/${what}`, { round: state.round, marks: state.marks.toSend });
    if (here() && !state.job && state.marks.done.length === count) await addMask(made, t(text), { replace });
  });
  if (here()) marked();
}

export const snap = () => state.config.snap && propose("snap", "snapping", "snapped", true);
export const shadow = () => propose("shadow", "shadowing", "shadowed", false);

let clicking = false;
/** A click on an object selects it; a click on what is selected, or with the right button, takes it away again. */
export async function select({ x, y }, minus) {
  if (clicking || state.job) return;
  const here = stillHere(), last = state.marks.current.at(-1), before = last?.clicks ? last : null;
  const click = { x: Math.round(x), y: Math.round(y), plus: !(minus || (before && covers(before.id, x, y))) };
  if (!click.plus && !before) return toast(t("selectFirst"));
  const clicks = [...(before?.clicks ?? []), click];
  clicking = true;
  say(t("selecting"));
  await attempt(async () => {
    const made = await post(`api/photos/${state.photo.id}/select`, { round: state.round, clicks });
    if (here() && !state.job) await addMask(made, t("selected"), { clicks, group: before?.group ?? made.id });
  });
  clicking = false;
  if (here()) marked();
}

const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
/** Whether a mask covers a place of the photo. */
function covers(id, x, y) {
  const image = overlays.get(id), { width, height } = state.photo;
  if (!image) return false;
  probe.clearRect(0, 0, 1, 1);
  probe.drawImage(image, Math.floor((x / width) * image.naturalWidth), Math.floor((y / height) * image.naturalHeight), 1, 1, 0, 0, 1, 1);
  return probe.getImageData(0, 0, 1, 1).data[3] > 127;
}

export async function saveMask() {
  const here = stillHere(), { id } = state.photo;
  const made = await post(`api/photos/${id}/masks`, { marks: state.marks.toSend });
  if (here()) element("a", { href: `api/photos/${id}/masks/${made.id}`, download: "" }).click();
}

/** Load a mask from a file; one of another shape is offered to be stretched. */
export async function loadMask(file, fit = false) {
  const here = stillHere();
  try {
    const made = await upload(`api/photos/${state.photo.id}/masks${fit ? "?fit=1" : ""}`, file);
    if (here()) await addMask(made, t("maskLoaded"));
  } catch (error) {
    if (!here()) return;
    const action = error.kind === "shape" ? { label: t("fit"), run: () => loadMask(file, true) } : null;
    toast(error.message, { lasting: true, action });
  }
}
