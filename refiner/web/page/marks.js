// What was drawn: strokes, areas and whole masks, in the photo's coordinates, with undo and redo.

const COLOR = "#e8472b";
const DIRECTIONS = Array.from({ length: 16 }, (_, i) => [Math.cos((i * Math.PI) / 8), Math.sin((i * Math.PI) / 8)]);

export class Marks {
  constructor(overlayOf, done = []) {
    this.done = [...done];
    this.undone = [];
    this.overlayOf = overlayOf; // gives the image of a mask by its id
  }

  add(mark) {
    this.done.push(mark);
    this.undone = [];
  }

  undo() {
    if (this.done.length) this.undone.push(this.done.pop());
  }

  redo() {
    if (this.undone.length) this.done.push(this.undone.pop());
  }

  clear() {
    if (!this.empty) this.add({ kind: "clear" });
  }

  /** Marks since the last clearing; of those of one group, which are tries at the same object, the last alone. */
  get current() {
    const left = this.done.slice(this.done.findLastIndex((mark) => mark.kind === "clear") + 1);
    return left.filter(({ group }, at) => !group || !left.slice(at + 1).some((later) => later.group === group));
  }

  get empty() {
    return !this.current.some((mark) => !mark.erase);
  }

  /** As the API takes them. */
  get toSend() {
    return this.current.map(({ kind, points, size, erase, id }) => ({ kind, points, size, erase, id }));
  }

  /** Draw all of them, grown and feathered as the server will. */
  draw(context, view, { grow, feather }) {
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, view.width, view.height);
    if (!this.current.length) return;
    for (const mark of this.current) this.drawOne(context, view, mark, grow);
    context.setTransform(1, 0, 0, 1, 0, 0);
    const blur = (feather * view.scale) / 2;
    if (blur > 0.5 && "filter" in context) {
      context.globalCompositeOperation = "destination-in";
      context.filter = `blur(${blur}px)`;
      for (let i = 0; i < 2; i++) context.drawImage(context.canvas, 0, 0); // once leaves half at the rim, twice next to nothing
      context.filter = "none";
    }
    context.globalCompositeOperation = "source-in";
    context.fillStyle = COLOR;
    context.fillRect(0, 0, view.width, view.height);
    context.globalCompositeOperation = "source-over";
  }

  drawOne(context, view, mark, grow) {
    view.apply(context);
    context.globalCompositeOperation = mark.erase ? "destination-out" : "source-over";
    context.strokeStyle = context.fillStyle = COLOR;
    context.lineCap = context.lineJoin = "round";
    const by = mark.erase ? -grow : grow; // growing what stays takes from what was erased
    if (mark.kind === "stroke") strokePath(context, mark.points, Math.max(mark.size + 2 * by, 0), 0);
    else if (mark.kind === "area") fillPath(context, mark.points, by);
    else this.stamp(context, view, mark, by);
    context.globalCompositeOperation = "source-over";
  }

  /** The part of a stroke that was drawn since its point `from`; what was there stays. */
  drawMore(context, view, mark, grow, from) {
    view.apply(context);
    context.globalCompositeOperation = mark.erase ? "destination-out" : "source-over";
    context.strokeStyle = context.fillStyle = COLOR;
    context.lineCap = context.lineJoin = "round";
    strokePath(context, mark.points, Math.max(mark.size + (mark.erase ? -2 : 2) * grow, 0), from);
    context.globalCompositeOperation = "source-over";
  }

  stamp(context, view, mark, by) {
    const image = this.overlayOf(mark.id);
    if (!image) return;
    const draw = (dx, dy) => context.drawImage(image, dx, dy, view.photoWidth, view.photoHeight);
    draw(0, 0);
    if (by > 0) for (const [x, y] of DIRECTIONS) draw(x * by, y * by);
  }
}

function strokePath(context, points, width, from) {
  if (width <= 0) return;
  if (points.length === 2) {
    context.beginPath();
    context.arc(points[0], points[1], width / 2, 0, 2 * Math.PI);
    context.fill();
    return;
  }
  context.lineWidth = width;
  context.beginPath();
  context.moveTo(points[from], points[from + 1]);
  for (let i = from + 2; i < points.length; i += 2) context.lineTo(points[i], points[i + 1]);
  context.stroke();
}

function fillPath(context, points, by) {
  context.beginPath();
  context.moveTo(points[0], points[1]);
  for (let i = 2; i < points.length; i += 2) context.lineTo(points[i], points[i + 1]);
  context.closePath();
  context.fill();
  if (by > 0) {
    context.lineWidth = 2 * by;
    context.stroke();
  }
}
