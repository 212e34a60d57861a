// What is drawn over the mask: the brush, outlines, clicks.

/** The brush, the outline that is being drawn, and what was clicked on. */
export function drawCursor(stage) {
  const { cursor, view, state, at, drawing } = stage, ratio = devicePixelRatio;
  cursor.setTransform(1, 0, 0, 1, 0, 0);
  cursor.clearRect(0, 0, view.width, view.height);
  if (!state.photo) return;
  if (state.outlined) drawOutline(stage);
  const twice = (draw) => { // light on dark, so that it shows on any photo
    for (const [color, width] of [["#0008", 3.5], ["#fff", 1.5]]) {
      cursor.strokeStyle = color;
      cursor.lineWidth = width * ratio;
      cursor.beginPath();
      draw();
      cursor.stroke();
    }
  };
  const place = (x, y) => [x * view.scale + view.x, y * view.scale + view.y];
  if (drawing && drawing.kind === "area") {
    twice(() => {
      for (let i = 0; i < drawing.points.length; i += 2) cursor.lineTo(...place(drawing.points[i], drawing.points[i + 1]));
      cursor.closePath();
    });
  }
  if (state.marks && !state.job && !state.holding && !state.comparing) drawClicks(stage, twice, place);
  if (!at || state.job || state.comparing || stage.panning || stage.space) return;
  const [x, y] = place(at.x, at.y), round = state.tool === "brush" || state.tool === "eraser";
  const radius = round ? Math.max((state.size / 2) * view.scale, 1.5 * ratio) : 7 * ratio;
  twice(() => {
    if (round) cursor.arc(x, y, radius, 0, 2 * Math.PI);
    if (!round || radius < 4 * ratio || stage.keyboard) {
      const arm = round ? radius + 8 * ratio : radius;
      cursor.moveTo(x - arm, y); cursor.lineTo(x + arm, y); cursor.moveTo(x, y - arm); cursor.lineTo(x, y + arm);
    }
  });
}

/** Where an object was clicked on, with plus and minus. */
function drawClicks({ cursor, state }, twice, place) {
  const arm = 5 * devicePixelRatio;
  const clicks = state.tool === "select" ? (state.marks.current.at(-1)?.clicks ?? []) : [];
  for (const { x, y, plus } of clicks) {
    const [left, top] = place(x, y);
    twice(() => {
      cursor.moveTo(left - arm, top); cursor.lineTo(left + arm, top);
      if (plus) { cursor.moveTo(left, top - arm); cursor.lineTo(left, top + arm); }
    });
  }
}

function drawOutline({ cursor, view, state }) {
  const image = state.outlined;
  drawRim(cursor, (dx, dy) => cursor.drawImage(image, view.x + dx, view.y + dy, view.photoWidth * view.scale, view.photoHeight * view.scale));
}

/** The rim of a mask: what is within two pixels of it, less itself; white, so that it shows on the mask's own color. */
export function drawRim(context, draw) {
  const width = 1.5 * devicePixelRatio;
  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.imageSmoothingEnabled = true;
  for (let i = 0; i < 8; i++) draw(width * Math.cos((i * Math.PI) / 4), width * Math.sin((i * Math.PI) / 4));
  context.globalCompositeOperation = "destination-out";
  for (let i = 0; i < 3; i++) draw(0, 0); // thrice, as its own edge is half transparent
  context.globalCompositeOperation = "source-in";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  context.restore();
}
