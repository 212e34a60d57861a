// The canvas: shows the photo, the mask over it and the brush, and turns pointers and keys into marks.

import { drawCursor, drawRim } from "./cursor.js";
import { t } from "./strings.js";

const BLANK = 1e-6;

export class Stage {
  /**
   * @param state what the page knows: photo, round, marks, tool, size, grow, feather, comparing, split, holding
   * @param view which part of the photo is shown
   * @param events drawn(mark), clicked(place, minus), sized(factor), looked() when the view changed, said(text)
   */
  constructor(state, view, events) {
    this.state = state;
    this.view = view;
    this.events = events;
    this.node = document.getElementById("stage");
    this.layers = ["photo", "mask", "rim", "cursor"].map((id) => document.getElementById(id));
    [this.photo, this.mask, this.rim, this.cursor] = this.layers.map((canvas) => canvas.getContext("2d"));
    this.pointers = new Map();
    this.drawing = null; // the mark that is being made
    this.at = null; // the brush, in the photo's coordinates
    this.keyboard = false;
    this.space = false;
    this.latencies = []; // milliseconds from a pointer's event to its paint, for measuring
    this.listen();
    new ResizeObserver(() => this.resize()).observe(this.node);
  }

  resize() {
    const ratio = devicePixelRatio, width = Math.round(this.node.clientWidth * ratio), height = Math.round(this.node.clientHeight * ratio);
    if (!width || !height) return;
    for (const canvas of this.layers) Object.assign(canvas, { width, height });
    this.view.resize(width, height);
    this.look();
  }

  /** The view or the picture changed: everything is drawn anew with the next frame. */
  look() {
    this.stale = true;
    this.frame();
    this.events.looked();
  }

  /** Marks, growth or feather changed. */
  remask() {
    this.staleMask = true;
    this.frame();
  }

  frame() {
    if (this.asked) return;
    this.asked = requestAnimationFrame((now) => {
      this.asked = null;
      if (this.stale) this.drawPhoto();
      if (this.stale || this.staleMask) this.drawMask();
      else if (this.drawing?.points.length > this.drawnTo) this.drawMore();
      this.stale = this.staleMask = false;
      drawCursor(this);
      if (this.eventTime) this.latencies.push(Math.max(performance.now(), now) - this.eventTime);
      this.eventTime = null;
    });
  }

  drawPhoto() {
    const { state, view, photo } = this;
    photo.setTransform(1, 0, 0, 1, 0, 0);
    photo.clearRect(0, 0, view.width, view.height);
    if (!state.picture) return;
    const before = state.holding || state.comparing;
    if (before) state.original.draw(photo, view);
    if (state.holding) return;
    photo.save();
    if (before) {
      photo.setTransform(1, 0, 0, 1, 0, 0);
      photo.beginPath();
      photo.rect(state.split * view.width, 0, view.width, view.height);
      photo.clip();
    }
    state.picture.draw(photo, view);
    for (const { image, box } of state.overlays) {
      view.apply(photo);
      photo.imageSmoothingEnabled = true;
      photo.drawImage(image, box[0], box[1], box[2] - box[0], box[3] - box[1]);
    }
    photo.restore();
  }

  drawMask() {
    const { state, view, mask } = this;
    mask.setTransform(1, 0, 0, 1, 0, 0);
    mask.clearRect(0, 0, view.width, view.height);
    this.rim.setTransform(1, 0, 0, 1, 0, 0);
    this.rim.clearRect(0, 0, view.width, view.height);
    this.drawnTo = 0;
    const shown = state.photo && !state.holding && !state.comparing && !state.job;
    if (shown) state.marks.draw(mask, view, state);
    if (shown && state.marks.current.length) drawRim(this.rim, (dx, dy) => this.rim.drawImage(mask.canvas, dx, dy));
    if (this.drawing) this.drawMore();
  }

  /** Only what was added to the mark since the last frame. */
  drawMore() {
    const mark = this.drawing;
    if (mark.kind !== "stroke") return;
    this.state.marks.drawMore(this.mask, this.view, mark, this.state.grow, Math.max(this.drawnTo - 2, 0));
    this.drawnTo = mark.points.length;
  }

  listen() {
    const node = this.node;
    node.addEventListener("pointerdown", (event) => this.down(event));
    node.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) node.addEventListener(name, (event) => this.up(event, name));
    node.addEventListener("pointerleave", () => { if (!this.drawing && !this.keyboard) { this.at = null; this.frame(); } });
    node.addEventListener("contextmenu", (event) => event.preventDefault());
    node.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    node.addEventListener("keydown", (event) => this.key(event));
    node.addEventListener("blur", () => this.endKeyboard());
  }

  place(event) {
    const box = this.node.getBoundingClientRect(), ratio = devicePixelRatio;
    return { x: (event.clientX - box.left) * ratio, y: (event.clientY - box.top) * ratio };
  }

  down(event) {
    if (!this.state.photo || event.target.closest(".handle")) return;
    this.node.focus({ preventScroll: true });
    event.preventDefault();
    this.endKeyboard();
    this.node.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.place(event));
    if (this.pointers.size > 1) { // a further finger: it is a pinch, not a stroke
      this.drop();
      this.panning = true;
      return;
    }
    if (event.button === 1 || this.space || this.state.job || this.state.comparing) this.panning = true;
    else if (event.button === 0 || event.button === 2 || event.button === 5) this.begin(event);
    this.node.classList.toggle("panning", Boolean(this.panning));
  }

  begin(event) {
    const { state } = this, erase = state.tool === "eraser" || event.button === 2 || event.button === 5;
    const { x, y } = this.view.toPhoto(...Object.values(this.place(event)));
    this.at = { x, y };
    if (state.tool === "select") {
      this.clicking = { x, y, minus: erase || event.altKey };
      return;
    }
    this.start(x, y, erase);
    this.eventTime = event.timeStamp;
    this.frame();
  }

  start(x, y, erase) {
    const { state } = this, stroke = state.tool === "brush" || state.tool === "eraser" || erase;
    const points = [tenth(x), tenth(y)];
    this.drawing = stroke ? { kind: "stroke", points, size: state.size, erase } : { kind: "area", points, erase };
    this.corner = [x, y];
    this.drawnTo = 0;
    this.events.began();
  }

  move(event) {
    const before = this.pointers.get(event.pointerId), now = this.place(event);
    if (before && this.panning) {
      this.pan(event.pointerId, before, now);
      return;
    }
    this.at = this.view.toPhoto(now.x, now.y);
    if (before) this.pointers.set(event.pointerId, now);
    if (this.drawing && before) {
      const all = event.getCoalescedEvents?.() ?? [];
      for (const part of all.length ? all : [event]) this.extend(this.view.toPhoto(...Object.values(this.place(part))));
      this.eventTime ??= event.timeStamp;
    }
    this.frame();
  }

  extend({ x, y }) {
    const mark = this.drawing, points = mark.points;
    if (mark.kind === "area" && this.state.tool === "rectangle") {
      const [left, top] = this.corner;
      mark.points = [left, top, x, top, x, y, left, y].map(tenth);
      return;
    }
    const dx = x - points.at(-2), dy = y - points.at(-1);
    if (dx * dx + dy * dy > 0.5 / this.view.scale ** 2 + BLANK) points.push(tenth(x), tenth(y));
  }

  pan(id, before, now) {
    const two = [...this.pointers].slice(0, 2); // a third finger has no say
    this.pointers.set(id, now);
    if (!two.some(([other]) => other === id)) return;
    const others = two.filter(([other]) => other !== id).map(([, place]) => place);
    if (others.length) {
      const [other] = others, was = distance(before, other), is = distance(now, other);
      this.view.moveBy((now.x - before.x) / 2, (now.y - before.y) / 2);
      if (was > 1) this.view.zoomTo((this.view.scale * is) / was, (now.x + other.x) / 2, (now.y + other.y) / 2);
    } else this.view.moveBy(now.x - before.x, now.y - before.y);
    this.look();
  }

  up(event, name) {
    if (!this.pointers.delete(event.pointerId)) return; // it was let go of already
    const { clicking } = this;
    this.clicking = null;
    if (this.drawing) name === "pointerup" && !this.panning ? this.finish() : this.drop();
    else if (clicking && name === "pointerup" && !this.panning) this.events.clicked(clicking, clicking.minus);
    if (!this.pointers.size) this.panning = false;
    this.node.classList.toggle("panning", Boolean(this.panning));
    if (event.pointerType === "touch") this.at = null;
    this.frame();
  }

  finish() {
    const mark = this.drawing;
    this.drawing = null;
    const real = mark.kind === "stroke" || mark.points.length > 4;
    if (real) this.events.drawn(mark);
    this.remask();
  }

  /** Put down what is being drawn, as if the pointer had been lifted; an outline that is not closed is left out. */
  finishDrawing() {
    if (this.drawing?.kind === "stroke") this.finish();
    this.drop();
  }

  drop() {
    this.clicking = null;
    if (!this.drawing) return;
    this.drawing = null;
    this.remask();
  }

  wheel(event) {
    event.preventDefault();
    if (!this.state.photo) return;
    const delta = event.deltaY || event.deltaX, step = event.deltaMode === 1 ? delta * 16 : delta;
    if (event.shiftKey || event.altKey) {
      this.events.sized(Math.exp(-step / 500));
      this.frame();
      return;
    }
    const { x, y } = this.place(event);
    this.view.zoomTo(this.view.scale * Math.exp(-step / (event.ctrlKey ? 120 : 420)), x, y);
    this.look();
  }

  /** The brush without a pointer: arrows move it, Enter puts it down and lifts it. */
  key(event) {
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const { state, view } = this;
    if (!state.photo || state.job || event.target !== this.node || event.ctrlKey || event.metaKey) return;
    if (arrow) {
      event.preventDefault();
      const step = ((event.shiftKey ? 60 : 12) * devicePixelRatio) / view.scale, inside = (value, side) => Math.min(Math.max(value, 0), side);
      const from = this.at ?? view.toPhoto(view.width / 2, view.height / 2);
      this.at = { x: inside(from.x + arrow[0] * step, view.photoWidth), y: inside(from.y + arrow[1] * step, view.photoHeight) };
      this.keyboard = true;
      if (this.drawing) this.extend(this.at);
      this.keepInSight();
      this.frame();
    } else if (event.key === "Enter") {
      event.preventDefault();
      this.keyboard = true;
      if (this.drawing) this.endKeyboard();
      else {
        this.at ??= view.toPhoto(view.width / 2, view.height / 2);
        if (state.tool === "select") return void this.events.clicked(this.at, event.shiftKey);
        this.start(this.at.x, this.at.y, state.tool === "eraser");
        this.events.said(t("penDown"));
        this.frame();
      }
    }
  }

  endKeyboard() {
    if (this.keyboard && this.drawing) {
      this.finish();
      this.events.said(t("penUp"));
    }
    this.keyboard = false;
    this.frame();
  }

  keepInSight() {
    const { view, at } = this, margin = 40 * devicePixelRatio, x = at.x * view.scale + view.x, y = at.y * view.scale + view.y;
    const dx = Math.max(margin - x, 0) + Math.min(view.width - margin - x, 0), dy = Math.max(margin - y, 0) + Math.min(view.height - margin - y, 0);
    if (!dx && !dy) return;
    view.moveBy(dx, dy);
    this.look();
  }
}

const tenth = (value) => Math.round(value * 10) / 10;
const distance = (a, b) => Math.hypot(a.x - b.x, a.y - b.y);
