// A removal: starts it, follows it, shows each scale as it comes, finds it again after a reload or a lost connection.

import { get, post } from "./api.js";
import { duration, t } from "./strings.js";

export class Work {
  /** @param events shown(image, box), over(state, snapshot), changed(), problem(line) */
  constructor(state, events) {
    this.state = state;
    this.events = events;
    this.bar = document.querySelector("#working .meter");
    this.text = document.getElementById("working-text");
  }

  async start(body) {
    const asked = performance.now();
    this.follow(await post(`api/photos/${this.state.photo.id}/jobs`, body), asked);
  }

  follow(snapshot, asked = performance.now()) {
    this.asked = asked;
    this.seen = null;
    this.photo = this.state.photo.id;
    this.take(snapshot);
    this.listen(snapshot.id);
  }

  listen(id) {
    const events = (this.source = new EventSource(`api/jobs/${id}/events`));
    events.onmessage = (event) => {
      if (this.missing) this.events.problem(t("back"));
      this.missing = false;
      this.take(JSON.parse(event.data));
    };
    events.onerror = () => {
      if (this.source !== events || !this.state.job) return;
      if (!this.missing) this.events.problem(t("lost"), true);
      this.missing = true;
      if (events.readyState === EventSource.CLOSED) this.lookAgain();
    };
  }

  /** The server does not know the job: it was started anew, or it is not there. */
  async lookAgain() {
    clearTimeout(this.timer);
    try {
      const photo = await get(`api/photos/${this.photo}`), [job] = photo.jobs;
      this.missing = false;
      if (job) this.follow(job);
      else this.end({ state: "interrupted" }, photo);
    } catch (error) {
      if (error.status === 404) this.end({ state: "gone" });
      else this.timer = setTimeout(() => this.lookAgain(), 2000);
    }
  }

  take(snapshot) {
    this.state.job = snapshot;
    const latest = snapshot.latest;
    if (latest && latest.number !== this.seen) {
      this.seen = latest.number;
      const image = new Image();
      image.onload = () => {
        if (this.state.job?.id !== snapshot.id) return;
        this.firstAfter ??= performance.now() - this.asked;
        this.events.shown(image, latest.box);
      };
      image.src = `api/jobs/${snapshot.id}/pictures/${latest.number}`;
    }
    if (["done", "failed", "canceled"].includes(snapshot.state)) this.end(snapshot);
    else this.show();
  }

  async end(snapshot, photo = null) {
    this.source?.close();
    clearTimeout(this.timer);
    let known = photo;
    if (snapshot.state !== "gone" && !photo) known = await get(`api/photos/${this.photo}`).catch(() => null);
    this.state.job = null;
    this.firstAfter = undefined;
    this.events.over(snapshot, known);
  }

  show() {
    const { job } = this.state, progress = job.progress, done = job.round !== undefined ? 1 : (progress?.done ?? 0);
    this.bar.firstElementChild.style.width = `${100 * done}%`;
    this.bar.setAttribute("aria-valuenow", Math.round(100 * done));
    this.text.textContent = this.words(job, progress);
    this.events.changed();
  }

  words(job, progress) {
    if (job.state === "waiting") return job.position ? t("waiting", { n: job.position }) : t("next");
    if (job.stopping) return t("stopping");
    if (job.round !== undefined) return t("saving");
    if (!progress) return t("starting");
    const [height, width] = progress.size, parts = [];
    if (progress.message) parts.push(progress.message);
    else if (progress.scale === 1) parts.push(t("first", { width, height }));
    else parts.push(t("scale", { width, height }));
    if (progress.steps > 1) parts.push(t("step", progress));
    if (progress.windows > 1) parts.push(t("window", { n: progress.window, count: progress.windows }));
    if (progress.loss != null) parts.push(t("loss", { loss: progress.loss.toFixed(4) }));
    parts.push(t("left", { time: duration(progress.left) }));
    return parts.join(" · ");
  }

  stop() {
    return post(`api/jobs/${this.state.job.id}/stop`);
  }

  cancel() {
    return post(`api/jobs/${this.state.job.id}/cancel`);
  }
}
