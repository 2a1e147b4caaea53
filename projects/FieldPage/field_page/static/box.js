// Windows [y0, x0, y1, x1] in whole pixels of a picture of [height, width].

const LEAST = 2; // pixels of a window's side

const clamp = (value, least, most) => Math.min(Math.max(value, least), most);

// The window between two points [y, x].
export function between(from, to, size) {
  const box = [];
  for (const axis of [0, 1]) {
    const low = clamp(Math.floor(Math.min(from[axis], to[axis])), 0, size[axis] - 1);
    const high = clamp(Math.ceil(Math.max(from[axis], to[axis])), 1, size[axis]);
    box[axis] = Math.min(low, Math.max(0, size[axis] - LEAST));
    box[axis + 2] = Math.min(size[axis], Math.max(high, box[axis] + LEAST));
  }
  return box;
}

// A window of a share of the picture's sides around a point.
export function around(point, share, size) {
  return resized([...point, ...point], Math.max(...size) * share, size);
}

// The window moved by [dy, dx], as far as the picture goes.
export function moved(box, by, size) {
  const result = [...box];
  for (const axis of [0, 1]) {
    const side = box[axis + 2] - box[axis];
    result[axis] = clamp(Math.round(box[axis] + by[axis]), 0, size[axis] - side);
    result[axis + 2] = result[axis] + side;
  }
  return result;
}

// The window around the same middle with another longer side, within the picture.
export function resized(box, longer, size) {
  const [height, width] = [box[2] - box[0], box[3] - box[1]];
  const most = Math.max(height, width);
  const sides = most ? [(height * longer) / most, (width * longer) / most]
    : [(size[0] * longer) / Math.max(...size), (size[1] * longer) / Math.max(...size)];
  const result = [];
  for (const axis of [0, 1]) {
    const side = clamp(Math.round(sides[axis]), Math.min(LEAST, size[axis]), size[axis]);
    const middle = (box[axis] + box[axis + 2]) / 2;
    result[axis] = clamp(Math.round(middle - side / 2), 0, size[axis] - side);
    result[axis + 2] = result[axis] + side;
  }
  return result;
}

export const contains = (box, [y, x]) => y >= box[0] && y < box[2] && x >= box[1] && x < box[3];

// Whether a window is so large that a new one is dragged inside it, since there is no room to move it.
export const most = (box, size) => (box[2] - box[0]) * (box[3] - box[1]) > 0.6 * size[0] * size[1];
