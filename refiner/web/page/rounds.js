// The rounds of a photo: which one is shown, compared with the photo as it came, and the way back and forth.

import { post, remove } from "./api.js";
import { lost } from "./opening.js";
import { Marks } from "./marks.js";
import { lastMask, marked, overlay, overlays } from "./masks.js";
import { showFills, showHistory } from "./panels.js";
import { Picture } from "./picture.js";
import { $, confirmed, state, stillHere, tellTabs, toast } from "./shared.js";
import { stage } from "./board.js";
import { t } from "./strings.js";
import { work } from "./work.js";

export const roundOf = (number) => state.photo?.rounds.find((round) => round.number === number);
export const firstFill = (round) => round.variant_of ?? round.number;

/** All fills of the hole that a round filled, the one that looks best first. */
export function fillsOf(round) {
  const fills = state.photo.rounds.filter((other) => other.number && firstFill(other) === firstFill(round));
  return fills.sort((a, b) => (a.faults ?? 0) - (b.faults ?? 0) || a.number - b.number);
}

export function chooseRound(number) {
  const here = stillHere();
  if (number !== state.round || !state.picture || state.picture.photo !== state.photo.id) {
    const before = state.picture ?? state.original;
    state.picture = number ? new Picture(state.photo, number, state.config, () => stage.look(), before) : state.original;
    state.picture.ready.catch(() => here() && lost());
  }
  state.round = number;
  const made = roundOf(number);
  $("mask-last").disabled = !lastMask();
  $("compare-group").hidden = state.photo.rounds.length < 2;
  for (const id of ["compare", "hold", "outline"]) $(id).disabled = !number;
  $("round-delete").disabled = !number;
  if (!number && state.comparing) setComparing(false);
  if (state.outlined) toggleOutline(Boolean(made.mask));
  showRounds();
  badge();
  stage.look();
  marked();
}

/** Draw what stands around the photo anew: the history and the fills. */
export function showRounds() {
  showHistory(state, { choose: chooseRound, drop: deleteRound });
  showFills(state, { choose: chooseRound, another });
}

/** Show the fill of this place among those of the hole; gives false where there is none. */
export function chooseFill(place) {
  const made = roundOf(state.round);
  if (!made?.number) return false;
  const fills = fillsOf(made);
  if (fills.length < 2 || !fills[place]) return false;
  chooseRound(fills[place].number);
  return true;
}

/** Ask for another fill of the hole that the shown round filled. */
export async function another() {
  const here = stillHere(), made = roundOf(state.round);
  if (!made?.number) return;
  const job = await post(`api/photos/${state.photo.id}/rounds/${firstFill(made)}/another`);
  tellTabs(state.photo?.id);
  if (!here()) return;
  if (!state.job) work.follow(job);
  else toast(t("inLine"));
}

export async function deleteRound(number) {
  const here = stillHere(), built = state.photo.rounds.some((round) => round.parent === number);
  if (!(await confirmed(t(built ? "deleteRoundBuilt" : "deleteRoundSure", { n: number }), t("deleteRound")))) return;
  const photo = await remove(`api/photos/${state.photo.id}/rounds/${number}`);
  tellTabs(photo.id);
  if (!here()) return;
  const dropped = roundOf(number);
  state.photo = photo;
  const near = fillsOf(dropped)[0]?.number ?? (roundOf(dropped.parent) ? dropped.parent : photo.rounds.at(-1).number);
  chooseRound(state.round === number ? near : state.round);
}

/** Go back before a removal: its marks are as they were when it was asked for. */
export function undoRound() {
  const made = roundOf(state.round);
  if (!made?.number || !roundOf(made.parent)) return false;
  state.redoRounds.push(made.number);
  state.marks = new Marks((id) => overlays.get(id), state.painted.get(made.number) ?? [{ kind: "mask", id: made.mask }]);
  chooseRound(made.parent);
  overlay(made.mask).then(() => stage.remask(), () => {});
  return true;
}

export function redoRound() {
  const number = state.redoRounds.pop();
  if (number === undefined || !roundOf(number)) return false;
  state.marks = new Marks((id) => overlays.get(id));
  chooseRound(number);
  return true;
}

export const canUndoRound = () => Boolean(roundOf(state.round)?.number && roundOf(roundOf(state.round).parent));
export const canRedoRound = () => state.redoRounds.length > 0 && roundOf(roundOf(state.redoRounds.at(-1))?.parent)?.number === state.round;

export function badge() {
  const made = state.photo && roundOf(state.round), label = made?.number ? t("round", { n: state.round }) : "";
  const shown = state.holding ? t("original") : state.comparing ? "" : label;
  $("badge").textContent = shown;
  $("badge").hidden = !shown || Boolean(state.job);
}

export function setComparing(on) {
  state.comparing = on;
  $("compare").setAttribute("aria-pressed", String(on));
  $("handle").hidden = !on;
  stage.node.classList.toggle("pan", on);
  badge();
  placeHandle();
  stage.look();
}

export function setHolding(on) {
  if (on === state.holding || !state.photo || !state.round) return;
  state.holding = on;
  badge();
  stage.look();
}

export async function toggleOutline(on) {
  const here = stillHere(), { round } = state, mask = roundOf(round)?.mask;
  const image = on && mask ? await overlay(mask) : null;
  if (!here() || state.round !== round) return;
  state.outlined = image;
  $("outline").setAttribute("aria-pressed", String(Boolean(image)));
  stage.frame();
}

export function placeHandle() {
  $("handle").style.left = `${100 * state.split}%`;
  $("handle").setAttribute("aria-valuenow", Math.round(100 * state.split));
}

export function setSplit(share) {
  state.split = Math.min(Math.max(share, 0), 1);
  placeHandle();
  stage.look();
}
