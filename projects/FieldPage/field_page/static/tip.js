// What is under the pointer: its class at once, probabilities once the pointer rests.

import { swatch } from "./legend.js";

const REST = 180; // milliseconds

const tip = document.getElementById("tip");
let timer = 0;
let turn = 0;

export function hide() {
  tip.hidden = true;
  turn += 1;
  clearTimeout(timer);
}

function line({ name, color }, share) {
  const row = document.createElement("div");
  row.append(swatch(color), name);
  if (share !== undefined) {
    const figure = document.createElement("span");
    figure.className = "share";
    figure.textContent = `${(100 * share).toFixed(1)} %`;
    row.append(figure);
  }
  return row;
}

function place({ clientX, clientY }) {
  const [width, height] = [tip.offsetWidth, tip.offsetHeight];
  tip.style.left = `${Math.min(clientX + 14, window.innerWidth - width - 8)}px`;
  tip.style.top = `${Math.min(clientY + 16, window.innerHeight - height - 8)}px`;
}

// `ask` gives [{class, probability}, ...] of the place.
export function showTip(event, classes, label, ask) {
  hide();
  const now = turn;
  tip.replaceChildren(line(classes[label]));
  tip.hidden = false;
  place(event);
  timer = setTimeout(async () => {
    const best = await ask().catch(() => null);
    if (!best || now !== turn) return;
    tip.replaceChildren(...best.map((one) => line(classes[one.class], one.probability)));
    place(event);
  }, REST);
}
