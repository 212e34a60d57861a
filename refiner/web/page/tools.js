// The brush, the tools and the panel under "More".

import { $, state } from "./shared.js";
import { stage } from "./board.js";

const SLIDER = 1000; // positions, from 1 to 1000 pixels, evenly by ratio

export function resizeBrush(size) {
  state.size = Math.min(Math.max(Math.round(size), 1), 1000);
  $("size").value = Math.round((SLIDER * Math.log(state.size)) / Math.log(1000));
  $("size").setAttribute("aria-valuetext", `${state.size} px`);
  $("size-value").textContent = `${state.size} px`;
  stage.frame();
}

export const slid = () => resizeBrush(1000 ** ($("size").value / SLIDER));

export function chooseTool(tool) {
  state.tool = tool;
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-checked", String(button.dataset.tool === tool));
  stage.frame();
}

export function showEdge() {
  for (const name of ["grow", "feather"]) {
    $(name).value = state[name];
    $(`${name}-value`).textContent = `${state[name]} px`;
  }
}

export function toggleDrawer(open = $("drawer").hidden) {
  $("drawer").hidden = !open;
  $("more").setAttribute("aria-expanded", String(open));
  (open ? $("drawer-close") : $("more")).focus();
}
