// The page: opens pictures, follows the pointer, and keeps what is shown up to date.

import * as boxes from "./box.js";
import { areas, fit, fitted, frame, paint, show } from "./drawing.js";
import { checkFile, limitsText, listenForFiles } from "./files.js";
import { askAll, finer, sidesOf } from "./finer.js";
import { fillLegend, markLegend } from "./legend.js";
import * as server from "./server.js";
import { hide as hideTip, showTip } from "./tip.js";

const FIRST = 160; // samples of the longer side of a window's first, coarse answer
const WHOLE = [320, 1024]; // and of the whole picture's answers, as far as it has pixels

const byId = (id) => document.getElementById(id);
const [pictureCanvas, detailCanvas] = [byId("picture"), byId("detail")];

let model = null;
// {id, name, height, width, seconds, image, labels, box, shown, detail, pixels}: labels of the whole;
// of the window `box` the part `shown` that detail and pixels (at one sample a pixel) are labels of
let current = null;
let drag = null; // {from, before, moving, far} while the pointer is down on the picture
let focus = null; // the class that the legend points at
let opening = 0; // counts pictures, so that one that comes late is dropped
let asking = new AbortController(); // of the window that is being decoded

const size = () => [current.height, current.width];

function say(text) {
  byId("status").textContent = text;
}

function complain(error) {
  byId("message").textContent = error.message;
  byId("error").hidden = false;
}

async function open(file) {
  if (!file || !model) return;
  const turn = (opening += 1);
  byId("error").hidden = true;
  try {
    checkFile(file, model.limits);
    say("computing features");
    const facts = await server.upload(file);
    const image = await createImageBitmap(file);
    if (turn !== opening) return void server.forget(facts.id);
    if (current) server.forget(current.id).catch(() => {});
    current = { ...facts, image, name: file.name };
    started();
    await ask();
  } catch (error) {
    if (turn === opening) complain(error);
  } finally {
    if (turn === opening) say("");
  }
}

function started() {
  const { id, name, height, width, seconds } = current;
  byId("drop").hidden = true;
  byId("work").hidden = byId("open").hidden = false;
  current.box = boxes.around([height / 2, width / 2], 0.25, size());
  const facts = `${name}, ${width} × ${height}, features computed once in ${seconds.toFixed(2)} s`;
  byId("picture-facts").textContent = byId("picture-facts").title = facts;
  byId("window-facts").textContent = "";
  byId("save-picture").href = server.labelFile(id, [0, 0, height, width], [height, width]);
  draw();
}

// Decodes the whole picture, if it is new, and the window as it is now.
async function ask() {
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  const [asked, box] = [current, current.box];
  const limit = model.limits.samples;
  say("decoding");
  try {
    const steps = WHOLE.map((samples) => Math.min(samples, Math.max(...size())));
    const answers = finer(asked.id, [0, 0, ...size()], steps, limit, signal, entropyShown());
    for await (const labels of asked.complete ? [] : answers) {
      Object.assign(asked, { labels, areas: areas(labels, model.classes.length) });
      draw();
    }
    asked.complete ||= !signal.aborted;
    const screen = Math.max(...fitted(detailCanvas, ...sidesOf(box)));
    let pixels = null;
    if (screen > Math.max(...sidesOf(box)) && !signal.aborted) {
      pixels = await askAll(asked.id, box, sidesOf(box), signal, entropyShown());
    }
    for await (const detail of finer(asked.id, box, [FIRST, screen], limit, signal, entropyShown())) {
      Object.assign(asked, { detail, pixels: pixels ?? detail, shown: box });
      describe();
      draw();
    }
  } catch (error) {
    if (!signal.aborted) complain(error);
  } finally {
    if (!signal.aborted) say("");
  }
}

function describe() {
  const { id, shown, detail } = current;
  const [height, width] = sidesOf(shown);
  const each = detail.zoom > 1 ? `${detail.zoom} × ${detail.zoom} a pixel`
    : `${Number(detail.zoom.toFixed(2))} a pixel each way`;
  const facts = `${width} × ${height} pixels decoded at ${detail.width} × ${detail.height}: ${each}, ` +
    `${detail.seconds.toFixed(2)} s`;
  byId("window-facts").textContent = byId("window-facts").title = facts;
  byId("save-window").href = server.labelFile(id, shown, [detail.height, detail.width]);
}

const entropyShown = () => byId("entropy").checked;

// Labels in the colours of their classes; or their entropy, as soon as it is there.
function overlay(labels) {
  const opacity = byId("opacity").value / 100;
  if (entropyShown() && labels.entropy) return paint(labels.entropy, model.shades, opacity, null);
  return paint(labels, model.classes, opacity, focus);
}

// Of the switch: asks for what is not there yet.
function switchEntropy() {
  byId("scale").hidden = !entropyShown();
  draw();
  if (!current || !entropyShown() || current.labels?.entropy) return;
  current.complete = false;
  ask();
}

const mode = () => document.querySelector('input[name="mode"]:checked').value;

function draw() {
  if (!current) return;
  const { image, labels, box, shown, detail, height, width } = current;
  fit(pictureCanvas, height, width);
  const whole = labels && overlay(labels);
  show(pictureCanvas, image, [0, 0, height, width], whole);
  frame(pictureCanvas, box, height, width);
  detailCanvas.hidden = !detail;
  if (detail) {
    const asked = mode() === "field" ? detail : current.pixels;
    fit(detailCanvas, shown[2] - shown[0], shown[3] - shown[1]);
    show(detailCanvas, image, shown, overlay(asked));
  }
  if (!labels) return;
  const part = detail && areas(detail, model.classes.length);
  fillLegend(byId("legend").tBodies[0], model.classes, current.areas, part, focus);
}

// Of a pointer over a canvas that shows `box`: [y, x] in pixels of the picture.
function pointAt(event, canvas, box) {
  const place = canvas.getBoundingClientRect();
  const [fy, fx] = [(event.clientY - place.top) / place.height, (event.clientX - place.left) / place.width];
  return [box[0] + fy * (box[2] - box[0]), box[1] + fx * (box[3] - box[1])];
}

function hover(event, canvas, box, labels) {
  const point = pointAt(event, canvas, box);
  if (!labels || !boxes.contains(box, point)) return hideTip();
  const row = Math.floor(((point[0] - box[0]) / (box[2] - box[0])) * labels.height);
  const column = Math.floor(((point[1] - box[1]) / (box[3] - box[1])) * labels.width);
  const label = labels.data[row * labels.width + column];
  markLegend(byId("legend"), label);
  const { id, height, width } = current;
  showTip(event, model.classes, label, () => server.askPoint(id, point[0] / height, point[1] / width));
}

function left() {
  hideTip();
  markLegend(byId("legend"), null);
}

function onDown(event) {
  if (!current || event.button !== 0) return;
  const from = pointAt(event, pictureCanvas, [0, 0, ...size()]);
  const moving = !event.shiftKey && boxes.contains(current.box, from) && !boxes.most(current.box, size());
  drag = { from, before: current.box, moving, far: false };
  pictureCanvas.setPointerCapture(event.pointerId);
  left();
}

function onMove(event) {
  if (!current) return;
  const whole = [0, 0, ...size()];
  if (!drag) {
    const inside = boxes.contains(current.box, pointAt(event, pictureCanvas, whole));
    const moves = inside && !event.shiftKey && !boxes.most(current.box, size());
    pictureCanvas.style.cursor = moves ? "move" : "crosshair";
    return hover(event, pictureCanvas, whole, current.labels);
  }
  const to = pointAt(event, pictureCanvas, whole);
  const by = [to[0] - drag.from[0], to[1] - drag.from[1]];
  const pixel = current.width / pictureCanvas.clientWidth;
  drag.far ||= Math.hypot(...by) > 4 * pixel;
  if (!drag.far) return;
  current.box = drag.moving ? boxes.moved(drag.before, by, size()) : boxes.between(drag.from, to, size());
  draw();
}

function onUp() {
  if (!drag) return;
  if (!drag.far) {
    const sides = sidesOf(drag.before);
    const by = [0, 1].map((axis) => drag.from[axis] - sides[axis] / 2 - drag.before[axis]);
    current.box = boxes.moved(drag.before, by, size());
  }
  drag = null;
  draw();
  ask();
}

function cancelDrag() {
  if (!drag) return;
  current.box = drag.before;
  drag = null;
  draw();
}

function onKey(event) {
  if (!current) return;
  if (event.key === "Escape") return cancelDrag();
  const longer = Math.max(...sidesOf(current.box));
  const step = Math.max(1, longer / 8);
  const box = {
    ArrowUp: () => boxes.moved(current.box, [-step, 0], size()),
    ArrowDown: () => boxes.moved(current.box, [step, 0], size()),
    ArrowLeft: () => boxes.moved(current.box, [0, -step], size()),
    ArrowRight: () => boxes.moved(current.box, [0, step], size()),
    "+": () => boxes.resized(current.box, longer / 1.25, size()),
    "-": () => boxes.resized(current.box, longer * 1.25, size()),
  }[event.key.replace("=", "+")]?.();
  if (!box) return;
  event.preventDefault();
  current.box = box;
  draw();
  ask();
}

function saveDrawing() {
  if (!current?.detail) return;
  detailCanvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = "window_drawing.png";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

function listen() {
  pictureCanvas.onpointerdown = onDown;
  pictureCanvas.onpointermove = onMove;
  pictureCanvas.onpointerup = onUp;
  pictureCanvas.onpointercancel = cancelDrag;
  pictureCanvas.onpointerleave = left;
  pictureCanvas.onkeydown = onKey;
  detailCanvas.onpointermove = (event) => {
    if (!current?.detail) return;
    hover(event, detailCanvas, current.shown, mode() === "field" ? current.detail : current.pixels);
  };
  detailCanvas.onpointerleave = left;
  byId("opacity").oninput = draw;
  byId("entropy").onchange = switchEntropy;
  for (const input of document.querySelectorAll('input[name="mode"]')) input.onchange = draw;
  byId("legend").onpointerover = (event) => {
    const row = event.target.closest("tbody tr");
    focus = row ? Number(row.dataset.label) : null;
    draw();
  };
  byId("legend").onpointerleave = () => {
    focus = null;
    draw();
  };
  byId("save-drawing").onclick = saveDrawing;
  byId("dismiss").onclick = () => (byId("error").hidden = true);
  window.onresize = draw;
}

async function start() {
  listen();
  listenForFiles(byId("file"), [byId("choose"), byId("open")], open);
  try {
    model = await server.loadModel();
  } catch (error) {
    return complain(error);
  }
  byId("model").textContent = model.title;
  byId("file").accept = model.limits.types.join();
  const stops = model.shades.map(({ color }) => `rgb(${color.join()})`);
  byId("shades").style.background = `linear-gradient(to right, ${stops.join()})`;
  byId("limits").textContent = limitsText(model.limits);
  document.body.dataset.ready = "true";
  if (model.first) await server.loadFirst(model.first).then(open, complain);
}

start();
