// One round of a photo on the canvas: a preview of all of it, and tiles at 1:1 where the preview is too coarse.

const MOST_TILES = 160; // of half a megapixel each at most

export class Picture {
  /** @param before what is shown until this one is there; null for nothing */
  constructor(photo, round, sizes, onLoad, before = null) {
    this.photo = photo.id;
    this.base = `api/photos/${photo.id}/rounds/${round}`;
    this.width = photo.width;
    this.height = photo.height;
    this.tileSide = sizes.tile;
    this.previewScale = Math.min(1, sizes.preview / Math.max(photo.width, photo.height));
    this.tiles = new Map(); // in the order they were last drawn
    this.onLoad = onLoad;
    this.before = before?.shown ?? null;
    this.preview = new Image();
    this.ready = new Promise((resolve, reject) => {
      this.preview.onload = () => { this.before = null; resolve(); onLoad(); };
      this.preview.onerror = () => reject(new Error("preview"));
    });
    this.ready.catch(() => {});
    this.preview.src = `${this.base}/preview`;
  }

  /** What there is to draw: itself, or what stands in for it. */
  get shown() {
    return this.preview.complete && this.preview.naturalWidth ? this : this.before;
  }

  /** Draw what the view shows of it; true when nothing is missing. */
  draw(context, view) {
    view.apply(context);
    context.imageSmoothingEnabled = view.scale < 3; // beyond, pixels are to be seen as pixels
    context.imageSmoothingQuality = "high";
    if (this.shown !== this) {
      this.before?.draw(context, view);
      return false;
    }
    context.drawImage(this.preview, 0, 0, this.width, this.height);
    if (this.previewScale === 1 && view.scale <= 1) return true;
    if (view.scale <= this.previewScale * 1.15) return true;
    const [left, top, right, bottom] = view.visible, side = this.tileSide;
    let complete = true;
    for (let row = Math.floor(top / side); row * side < bottom; row++) {
      for (let column = Math.floor(left / side); column * side < right; column++) {
        const tile = this.tile(column, row);
        if (tile.complete && tile.naturalWidth) context.drawImage(tile, column * side, row * side);
        else complete = false;
      }
    }
    return complete;
  }

  tile(column, row) {
    const key = `${column}/${row}`;
    let tile = this.tiles.get(key);
    if (tile) this.tiles.delete(key);
    else {
      tile = new Image();
      tile.onload = this.onLoad;
      tile.src = `${this.base}/tiles/${key}`;
    }
    this.tiles.set(key, tile);
    if (this.tiles.size > MOST_TILES) this.tiles.delete(this.tiles.keys().next().value);
    return tile;
  }
}
