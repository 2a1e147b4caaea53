// Labels over pictures on canvases.

// [height, width] in the screen's pixels of what is shown as large as the canvas's figure allows.
export function fitted(canvas, height, width) {
  const room = canvas.parentElement.clientWidth;
  const most = Math.max(240, window.innerHeight - 190);
  const wide = Math.round(Math.min(room, (most * width) / height) * devicePixelRatio);
  return [Math.max(1, Math.round((wide * height) / width)), wide];
}

// Gives the canvas that size, and clears it.
export function fit(canvas, height, width) {
  [canvas.height, canvas.width] = fitted(canvas, height, width);
  canvas.style.width = `${canvas.width / devicePixelRatio}px`;
}

// The labels in their colours on a canvas of their size; classes other than `focus` are faint.
export function paint(labels, classes, opacity, focus) {
  const canvas = new OffscreenCanvas(labels.width, labels.height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(labels.width, labels.height);
  const colors = new Uint32Array(classes.length);
  const bytes = new Uint8Array(colors.buffer);
  classes.forEach(({ color }, index) => {
    const share = focus === null || focus === index ? opacity : opacity * 0.15;
    bytes.set([...color, Math.round(255 * share)], 4 * index);
  });
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i += 1) pixels[i] = colors[labels.data[i]];
  context.putImageData(image, 0, 0);
  return canvas;
}

// The part `box` [y0, x0, y1, x1] of a picture under labels of that part.
export function show(canvas, picture, box, overlay) {
  const context = canvas.getContext("2d");
  const [y0, x0, y1, x1] = box;
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, x0, y0, x1 - x0, y1 - y0, 0, 0, canvas.width, canvas.height);
  if (!overlay) return;
  // Labels are enlarged as they are, and only averaged where they shrink.
  context.imageSmoothingEnabled = overlay.width > canvas.width;
  context.drawImage(overlay, 0, 0, canvas.width, canvas.height);
}

// The frame of a window on the whole picture.
export function frame(canvas, box, height, width) {
  const context = canvas.getContext("2d");
  const [sy, sx] = [canvas.height / height, canvas.width / width];
  const [y0, x0, y1, x1] = box;
  const place = [x0 * sx, y0 * sy, (x1 - x0) * sx, (y1 - y0) * sy];
  context.lineWidth = 4 * devicePixelRatio;
  context.strokeStyle = "#000a";
  context.strokeRect(...place);
  context.lineWidth = 2 * devicePixelRatio;
  context.strokeStyle = "#fff";
  context.strokeRect(...place);
}

// The share of each class in labels.
export function areas(labels, count) {
  const sums = new Float64Array(count);
  for (const label of labels.data) sums[label] += 1;
  return sums.map((sum) => sum / labels.data.length);
}
