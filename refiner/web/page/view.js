// Which part of the photo is shown, and how large. Positions on the canvas are in device pixels.

const LARGEST = 16;

export class View {
  constructor() {
    this.width = this.height = 1; // of the canvas
    this.photoWidth = this.photoHeight = 1;
    this.scale = 1; // device pixels for each pixel of the photo
    this.x = this.y = 0; // where the photo's corner is
    this.fitted = true;
  }

  /** The canvas has another size. */
  resize(width, height) {
    const dx = (width - this.width) / 2, dy = (height - this.height) / 2;
    this.width = width;
    this.height = height;
    if (this.fitted) this.fit();
    else this.moveBy(dx, dy);
  }

  get fitScale() {
    const margin = Math.min(this.width, this.height) > 500 * devicePixelRatio ? 0.94 : 0.98;
    return margin * Math.min(this.width / this.photoWidth, this.height / this.photoHeight);
  }

  fit() {
    this.scale = Math.min(this.fitScale, LARGEST);
    this.x = (this.width - this.photoWidth * this.scale) / 2;
    this.y = (this.height - this.photoHeight * this.scale) / 2;
    this.fitted = true;
  }

  /** Zoom so that what is at a place of the canvas stays there. */
  zoomTo(scale, x = this.width / 2, y = this.height / 2) {
    const bounded = Math.min(Math.max(scale, Math.min(this.fitScale, 1) / 4), LARGEST);
    const at = this.toPhoto(x, y);
    this.scale = bounded;
    this.x = x - at.x * bounded;
    this.y = y - at.y * bounded;
    this.fitted = false;
    this.moveBy(0, 0);
  }

  /** Move, but never so far that the photo is out of sight. */
  moveBy(dx, dy) {
    const keep = 80 * devicePixelRatio;
    const within = (value, length, side) => Math.min(Math.max(value, keep - length * this.scale), side - keep);
    this.x = within(this.x + dx, this.photoWidth, this.width);
    this.y = within(this.y + dy, this.photoHeight, this.height);
    if (dx || dy) this.fitted = false;
  }

  toPhoto(x, y) {
    return { x: (x - this.x) / this.scale, y: (y - this.y) / this.scale };
  }

  /** Draw in the photo's coordinates from now on. */
  apply(context) {
    context.setTransform(this.scale, 0, 0, this.scale, this.x, this.y);
  }

  /** The part of the photo that is on the canvas: left, top, right, bottom. */
  get visible() {
    const from = this.toPhoto(0, 0), to = this.toPhoto(this.width, this.height);
    return [Math.max(from.x, 0), Math.max(from.y, 0), Math.min(to.x, this.photoWidth), Math.min(to.y, this.photoHeight)];
  }
}
