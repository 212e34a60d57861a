// A removal: starts it, follows it, shows each scale as it comes, finds it again after a reload or a lost connection.

import { get, post } from "./api.js";
import { stage } from "./board.js";
import { Marks } from "./marks.js";
import { asked, marked, overlays } from "./masks.js";
import { lost } from "./opening.js";
import { badge, chooseRound, roundOf, setComparing, showRounds, toggleOutline } from "./rounds.js";
import { $, attempt, say, state, stillHere, tellTabs, toast } from "./shared.js";
import { duration, t } from "./strings.js";

const TICK = 200; // milliseconds between two looks at the clock
const ENDED = ["done", "failed", "canceled"];
const UNKNOWN = 8; // seconds that are left of work of which nothing is known

class Work {
  constructor() {
    this.bar = document.querySelector("#working .meter");
    this.text = $("working-text");
    this.number = 0; // counts what was followed, so that an answer that comes late is known as such
    addEventListener("visibilitychange", () => this.seen());
  }

  /** Ask for a removal of what is marked. */
  async start() {
    if (state.marks.empty || state.job || this.starting) return;
    stage.finishDrawing();
    setComparing(false);
    if (state.outlined) toggleOutline(false);
    $("remove").disabled = true;
    const here = stillHere(), started = performance.now(), done = [...state.marks.done];
    this.starting = true;
    await attempt(async () => {
      const job = await post(`api/photos/${state.photo.id}/jobs`, asked());
      tellTabs(job.photo);
      if (here()) this.follow(job, started, done);
    });
    this.starting = false;
    if (here()) marked();
  }

  /** @param done marks that the removal was asked with */
  follow(snapshot, started = performance.now(), done = [...state.marks.done]) {
    this.detach();
    Object.assign(this, { asked: started, shownNumber: null, firstAfter: undefined, done, photo: state.photo.id, began: null, told: null, shownShare: 0, movedAt: null });
    this.take(snapshot);
    if (!state.job) return;
    this.listen(snapshot.id);
    this.clock = setInterval(() => state.job && this.show(), TICK);
  }

  /** Let go of what is followed; it goes on without this page. */
  detach() {
    this.number += 1;
    this.source?.close();
    this.source = null;
    this.missing = false;
    clearTimeout(this.timer);
    clearInterval(this.clock);
  }

  listen(id) {
    const { number } = this, events = (this.source = new EventSource(`api/jobs/${id}/events`));
    events.onmessage = (event) => {
      if (this.number !== number) return;
      if (this.missing) toast(t("back"));
      this.missing = false;
      this.take(JSON.parse(event.data));
    };
    events.onerror = () => {
      if (this.number !== number || !state.job) return;
      if (!this.missing) toast(t("lost"), { lasting: true });
      this.missing = true;
      if (events.readyState === EventSource.CLOSED) this.lookAgain();
    };
  }

  /** A hidden tab lets go of its connection: a browser has only a few for each server. */
  seen() {
    if (!state.job) return;
    if (document.hidden) this.source?.close();
    else if (this.source?.readyState === EventSource.CLOSED) this.listen(state.job.id);
  }

  /** The server does not know the job: it was started anew, or it is not there. */
  async lookAgain() {
    clearTimeout(this.timer);
    const { number } = this;
    try {
      const photo = await get(`api/photos/${this.photo}`), [job] = photo.jobs;
      if (this.number !== number) return;
      this.missing = false;
      if (job) this.follow(job, this.asked, this.done);
      else this.end({ state: "interrupted" }, photo);
    } catch (error) {
      if (this.number !== number) return;
      if (error.status === 404) this.end({ state: "gone" });
      else this.timer = setTimeout(() => this.lookAgain(), 2000);
    }
  }

  take(snapshot) {
    const { number } = this, { latest } = snapshot;
    if (snapshot.id === this.stopped) snapshot.stopping = true; // the server may not know yet
    state.job = snapshot;
    if (snapshot.state === "working") this.began ??= performance.now() - 1000 * snapshot.seconds;
    if (snapshot.progress && snapshot.progress.done !== this.told?.done) this.told = { done: snapshot.progress.done, left: snapshot.progress.left, at: performance.now() };
    if (latest && latest.number !== this.shownNumber) {
      this.shownNumber = latest.number;
      const image = new Image();
      image.onload = () => {
        if (this.number !== number || state.job?.id !== snapshot.id) return;
        this.firstAfter ??= performance.now() - this.asked;
        state.overlays = [{ image, box: latest.box }];
        stage.look();
      };
      image.src = `api/jobs/${snapshot.id}/pictures/${latest.number}`;
    }
    if (ENDED.includes(snapshot.state)) this.end(snapshot);
    else this.show();
  }

  async end(snapshot, photo = null) {
    const here = stillHere(), { number } = this;
    this.source?.close();
    clearTimeout(this.timer);
    clearInterval(this.clock);
    let known = photo;
    if (snapshot.state !== "gone" && !photo) known = await get(`api/photos/${this.photo}`).catch(() => null);
    if (!here() || this.number !== number) return;
    this.detach();
    state.job = null;
    tellTabs(this.photo);
    over(snapshot, known, this.done);
  }

  /** Seconds that are left: by the server's last word, else by what was expected. */
  get left() {
    const { told, began } = this, { job } = state, now = performance.now();
    if (told) return told.left - (now - told.at) / 1000;
    return job.expected == null ? null : job.expected - (now - began) / 1000;
  }

  /** Move the bar on: it always moves, the slower the longer it will take, catches up with the server, and never goes back. */
  moved() {
    const now = performance.now(), seconds = Math.min((now - (this.movedAt ?? now)) / 1000, 1), shown = this.shownShare;
    this.movedAt = now;
    if (state.job.round !== undefined) return 1;
    if (!this.began) return 0;
    const left = Math.max(this.left ?? UNKNOWN, 1), behind = Math.max((this.told?.done ?? 0) - shown, 0);
    return Math.min(shown + (0.8 * (0.97 - shown) * seconds) / (left + 1) + behind * Math.min(2 * seconds, 1), 0.99);
  }

  show() {
    const { job } = state, share = (this.shownShare = this.moved());
    this.bar.firstElementChild.style.width = `${100 * share}%`;
    this.bar.setAttribute("aria-valuenow", Math.round(100 * share));
    const words = this.words(job, job.progress);
    if (this.text.textContent !== words) this.text.textContent = words;
    $("stop").disabled = Boolean(job.stopping);
    if (!$("working").classList.contains("off")) return;
    showWork();
  }

  words(job, progress) {
    if (job.state === "waiting") return job.position ? t("waiting", { n: job.position }) : t("next");
    if (job.stopping) return t("stopping");
    if (job.round !== undefined) return t("saving");
    const { left } = this, rest = left > 0.5 ? t("left", { time: duration(left) }) : null;
    if (!progress) return [t("starting"), rest].filter(Boolean).join(" · ");
    const [height, width] = progress.size, parts = [];
    parts.push(t(progress.scale === 1 ? "first" : "scale", { width, height }));
    if (progress.steps > 1) parts.push(t("step", progress));
    if (progress.windows > 1) parts.push(t("window", { n: progress.window, count: progress.windows }));
    return [...parts, rest].filter(Boolean).join(" · ");
  }

  /** End with the best so far. It is said at once, since the work only ends after the step that is under way. */
  async stop() {
    const { job } = state;
    if (!job || job.stopping) return;
    this.stopped = job.id;
    this.take(job);
    try { await post(`api/jobs/${job.id}/stop`); } catch (error) {
      this.stopped = null;
      throw error;
    }
  }

  async cancel() {
    if (state.job) await post(`api/jobs/${state.job.id}/cancel`);
  }
}

export const work = new Work();

/** Show tools, or the progress in their place. */
export function showWork() {
  const busy = Boolean(state.job);
  $("working").classList.toggle("off", !busy);
  document.querySelector(".dock .row").classList.toggle("off", busy);
  $("plan").classList.toggle("off", busy);
  document.body.classList.toggle("busy", busy);
  stage.node.classList.toggle("pan", busy || state.comparing);
  badge();
  stage.remask();
}

/** The removal ended. All that it changes is changed here at once: what is painted from now on is the next mask. */
function over(snapshot, photo, done) {
  if (photo) state.photo = photo;
  const made = snapshot.state === "done" ? roundOf(snapshot.round) : null;
  if (snapshot.state === "gone") return lost();
  if (made) {
    if (made.variant_of === null) {
      state.painted.set(made.number, done);
      state.marks = new Marks((id) => overlays.get(id));
      state.redoRounds = [];
    }
    chooseRound(made.number);
    const { picture } = state, drop = () => { if (state.picture === picture && !state.job) { state.overlays = []; stage.look(); } };
    picture.ready.then(drop, drop); // until the new preview is there, the last scale stays in its place
    const words = [t(made.stopped ? "stopped" : "done", { time: duration(made.seconds) })];
    if (made.saved) words.push(t("saved", { name: made.saved }));
    toast(words.join(" "));
  } else {
    state.overlays = [];
    chooseRound(roundOf(state.round) ? state.round : state.photo.rounds.at(-1).number);
    if (snapshot.state === "interrupted") toast(t("interrupted"), { lasting: true });
    else if (snapshot.state === "failed") toast(snapshot.error, { lasting: true });
    else toast(t("canceled"));
  }
  showWork();
  stage.look();
  marked();
  const [next] = state.photo.jobs;
  if (next) work.follow(next);
  else showRounds();
}
