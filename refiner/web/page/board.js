// The one canvas of the page, and what follows from drawing on it.

import { marked, select } from "./masks.js";
import { placeHandle, toggleOutline } from "./rounds.js";
import { $, speak, state } from "./shared.js";
import { Stage } from "./stage.js";
import { resizeBrush } from "./tools.js";
import { View } from "./view.js";

export const view = new View();
export const stage = new Stage(state, view, {
  began: () => { $("tip").hidden = true; if (state.outlined) toggleOutline(false); },
  drawn: (mark) => { state.marks.add(mark); state.redoRounds = []; marked(); },
  clicked: (place, minus) => { state.redoRounds = []; select(place, minus); },
  sized: (factor) => resizeBrush(state.size * factor),
  looked: () => { $("zoom-value").textContent = `${Math.round(100 * view.scale)} %`; placeHandle(); },
  said: speak,
});
