// A window's labels, coarse at first and then finer, so that there is something to see at once.

import { askEntropy, askLabels } from "./server.js";

export const sidesOf = (box) => [box[2] - box[0], box[3] - box[1]];

// Samples a pixel that give the longer side at least so many: whole ones, where they are above 1.
function zoomOf(sides, samples, limit) {
  const zoom = samples / Math.max(...sides);
  if (zoom <= 1) return zoom;
  return Math.max(1, Math.min(Math.ceil(zoom), Math.floor(Math.sqrt(limit / (sides[0] * sides[1])))));
}

// Labels, and with them as `entropy` the entropy, null unless it is wanted.
export async function askAll(id, box, size, signal, withEntropy) {
  const labels = await askLabels(id, box, size, signal);
  const entropy = withEntropy ? await askEntropy(id, box, size, signal) : null;
  return { ...labels, entropy };
}

// Yields {data, height, width, seconds, entropy, zoom} for each number of samples of the longer side in `steps`
// that is finer than the one before. `limit` is of all samples of an answer.
export async function* finer(id, box, steps, limit, signal, withEntropy) {
  const sides = sidesOf(box);
  let before = 0;
  for (const step of steps) {
    const zoom = zoomOf(sides, step, limit);
    if (zoom <= before) continue;
    before = zoom;
    const size = sides.map((side) => Math.max(1, Math.round(side * zoom)));
    const labels = await askAll(id, box, size, signal, withEntropy);
    if (signal.aborted) return;
    yield { ...labels, zoom };
  }
}
