// Opening and leaving photos, and the first page with examples and earlier photos.

import { get, post, remove, upload } from "./api.js";
import { Marks } from "./marks.js";
import { addMask, loadOverlays, marked, overlays, restore } from "./masks.js";
import { showFormats } from "./panels.js";
import { Picture } from "./picture.js";
import { chooseRound } from "./rounds.js";
import { $, attempt, confirmed, element, hideToast, icon, say, state, stillHere, tellTabs, toast } from "./shared.js";
import { stage, view } from "./board.js";
import { t, translatePage } from "./strings.js";
import { resizeBrush } from "./tools.js";
import { showWork, work } from "./work.js";

let uploads = 0;

/** Open a file. The photo that is open stays until the new one is there: a bad file changes nothing. */
export async function openFile(file, ready) {
  if (!file) return;
  await ready; // a file can be dropped before the server has answered
  const { upload_bytes: most } = state.config, mega = (bytes) => Math.round(bytes / 1e6);
  if (file.size > most) return toast(t("tooBig", { name: file.name, size: mega(file.size), most: mega(most) }));
  const number = ++uploads, title = document.querySelector("#drop h2");
  const tell = (share) => {
    if (number !== uploads) return;
    const line = share < 1 ? t("uploading", { percent: Math.round(100 * share) }) : t("reading");
    $("uploading").hidden = false;
    $("uploading").firstElementChild.style.width = `${100 * share}%`;
    title.textContent = line;
    if (state.photo) toast(line, { lasting: true });
  };
  tell(0);
  await attempt(async () => {
    const photo = await upload(`api/photos?name=${encodeURIComponent(file.name)}`, file, tell);
    if (number !== uploads) return; // another one was chosen meanwhile; this one is among the earlier photos
    hideToast();
    await openPhoto(photo);
  });
  if (number !== uploads) return;
  $("uploading").hidden = true;
  title.textContent = t("startTitle");
}

async function openExample(name) {
  const { visit } = state, photo = await post(`api/examples/${encodeURIComponent(name)}`);
  if (state.visit !== visit) return;
  await openPhoto(photo);
  if (photo.loaded && state.photo?.id === photo.id) await addMask(photo.loaded, t("maskLoaded"));
}

/** Open an earlier photo as it is by now: work on it may have begun or ended since it was listed. */
async function reopen({ id }) {
  const { visit } = state, photo = await get(`api/photos/${id}`);
  if (state.visit === visit) await openPhoto(photo);
}

/** Let go of the photo that is open, with all that is under way for it on this page. */
function close() {
  state.visit += 1;
  work.detach();
  stage.drop();
  Object.assign(state, {
    photo: null, job: null, picture: null, original: null, overlays: [], formats: [], comparing: false, holding: false, outlined: null, redoRounds: [],
  });
  state.painted.clear();
  overlays.clear();
  $("handle").hidden = true;
  $("compare").setAttribute("aria-pressed", "false");
  $("outline").setAttribute("aria-pressed", "false");
  $("facts").textContent = "";
  showWork();
  say("");
}

export async function openPhoto(photo) {
  close();
  state.photo = photo;
  const here = stillHere();
  location.hash = photo.id;
  document.title = `${photo.name} – refiner`;
  state.marks = new Marks((id) => overlays.get(id));
  restore();
  Object.assign(view, { photoWidth: photo.width, photoHeight: photo.height, fitted: true });
  $("start").hidden = true;
  for (const id of ["editor", "save", "open"]) $(id).hidden = false;
  if (!state.fromBefore) resizeBrush(Math.max(photo.width, photo.height) / 32);
  state.original = new Picture(photo, 0, state.config, () => stage.look());
  chooseRound(photo.rounds.at(-1).number);
  stage.resize();
  view.fit();
  stage.look();
  describe();
  if (photo.jobs.length) work.follow(photo.jobs[0]);
  marked();
  stage.node.focus({ preventScroll: true });
  await loadOverlays();
  const formats = await get(`api/photos/${photo.id}/formats`);
  if (!here()) return;
  state.formats = formats;
  showFormats(state);
  describe();
  marked();
}

export function leave() {
  close();
  $("start").hidden = false;
  for (const id of ["editor", "save", "open"]) $(id).hidden = true;
  $("name").textContent = "";
  $("drawer").hidden = true;
  document.title = "refiner";
  if (location.hash) history.replaceState(null, "", location.pathname);
  showStart();
}

/** The photo that is open is no longer on the server. */
export function lost() {
  if (!state.photo) return;
  leave();
  toast(t("gone"), { lasting: true });
}

/** Ask for what became of the photo meanwhile: in another tab, or by another program. */
export async function refresh() {
  const here = stillHere();
  if (!state.photo) return;
  const before = state.photo.rounds.at(-1).number;
  let photo;
  try { photo = await get(`api/photos/${state.photo.id}`); } catch (error) {
    if (here() && error.status === 404) lost();
    return;
  }
  if (!here()) return;
  state.photo = photo;
  const last = photo.rounds.at(-1).number, there = photo.rounds.some((round) => round.number === state.round);
  const newer = last > before && !state.job;
  chooseRound(newer || !there ? last : state.round);
  if (newer) toast(t("elsewhere"));
  if (!state.job && photo.jobs.length) work.follow(photo.jobs[0]);
}

export async function deletePhoto(photo) {
  if (!(await confirmed(t("deletePhotoSure", { name: photo.name }), t("deletePhoto")))) return;
  await remove(`api/photos/${photo.id}`);
  try { localStorage.removeItem(`refiner-${photo.id}`); } catch { /* nothing was kept */ }
  tellTabs(photo.id);
  if (state.photo?.id === photo.id) leave();
  else showStart();
  toast(t("deleted", { name: photo.name }));
}

export function describe() {
  const { photo, formats } = state, kind = photo.format ?? "";
  $("name").textContent = `${photo.name} · ${photo.width} × ${photo.height} · ${kind} ${photo.mode} · ${t("bits", { depth: photo.depth })}`;
  $("facts").textContent = [...photo.notes, ...(formats[0]?.loses ?? [])].join(" ");
}

export async function showStart() {
  const { config } = state, photos = await get("api/photos").catch(() => []);
  if (state.photo) return;
  const values = { megapixels: config.megapixels, hours: Math.round(config.keep_seconds / 3600) || "<1" };
  Object.assign(document.querySelector('[data-t="startHint"]').dataset, values);
  const card = (image, name, click) => {
    const button = element("button", { className: "card", type: "button" }, element("img", { src: image, alt: "" }), element("span", { textContent: name }));
    button.onclick = () => attempt(click);
    return button;
  };
  const earlier = (photo) => {
    const label = `${t("deletePhoto")}: ${photo.name}`, cross = element("button", { className: "cross", type: "button", title: label, "aria-label": label }, icon("close"));
    cross.onclick = () => attempt(() => deletePhoto(photo));
    return element("div", { className: "kept" }, card(`api/photos/${photo.id}/rounds/${photo.rounds.at(-1).number}/thumbnail`, photo.name, () => reopen(photo)), cross);
  };
  $("example-list").replaceChildren(...config.examples.map((name) => card(`api/examples/${encodeURIComponent(name)}`, name, () => openExample(name))));
  $("examples").hidden = !config.examples.length;
  $("recent-list").replaceChildren(...photos.map(earlier));
  $("recent").hidden = !photos.length;
  translatePage();
}
