// Images of 28 x 28 bytes: made from ink as MNIST's were, compared, and painted on canvases.

export const SIDE = 28;
const BOX = 20; // MNIST scales each digit into a box of 20 x 20 pixels ...
const CENTRE = 14; // ... and puts its centre of mass at pixel 14 of both axes.
const LEAST = 1 / 4; // Smaller drawings, as a share of the sheet, are not enlarged to the whole box: a dot stays one.
const SAMPLES = 5; // Samples of the ink per pixel and axis.

/**
 * Ink as an image, centred as in MNIST.
 *
 * @param {{data: Float32Array, side: number}} ink square; 0 without ink, 1 full.
 * @returns {Uint8Array} (28, 28), flat; zeros without ink.
 */
export function centred(ink) {
  const box = boundingBox(ink);
  if (box === null) return new Uint8Array(SIDE * SIDE);
  const scale = Math.max(box.width, box.height, ink.side * LEAST) / BOX;
  const mass = centreOfMass(ink);
  // Pixel i covers the ink from (i - 0.5) to (i + 0.5) pixels around its centre.
  return resampled(ink, scale, mass.x - CENTRE * scale, mass.y - CENTRE * scale);
}

/** Ink as an image, as it lies on the sheet. */
export function uncentred(ink) {
  const scale = ink.side / SIDE;
  return resampled(ink, scale, scale / 2, scale / 2);
}

function resampled(ink, scale, left, top) {
  const image = new Uint8Array(SIDE * SIDE);
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      let sum = 0;
      for (let i = 0; i < SAMPLES * SAMPLES; i++) {
        const dx = ((i % SAMPLES) + 0.5) / SAMPLES - 0.5;
        const dy = (Math.floor(i / SAMPLES) + 0.5) / SAMPLES - 0.5;
        sum += inkAt(ink, Math.floor(left + (x + dx) * scale), Math.floor(top + (y + dy) * scale));
      }
      image[y * SIDE + x] = Math.round((255 * sum) / (SAMPLES * SAMPLES));
    }
  }
  return image;
}

function inkAt({ data, side }, x, y) {
  return x < 0 || y < 0 || x >= side || y >= side ? 0 : data[y * side + x];
}

function boundingBox({ data, side }) {
  let [left, right, top, bottom] = [side, -1, side, -1];
  for (let i = 0; i < data.length; i++) {
    if (data[i] < 0.1) continue;
    const [x, y] = [i % side, Math.floor(i / side)];
    [left, right] = [Math.min(left, x), Math.max(right, x)];
    [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
  }
  return right < 0 ? null : { width: right - left + 1, height: bottom - top + 1 };
}

/** In coordinates where the first cell of the ink covers 0 to 1. */
function centreOfMass({ data, side }) {
  let [x, y, sum] = [0, 0, 0];
  for (let i = 0; i < data.length; i++) {
    x += data[i] * ((i % side) + 0.5);
    y += data[i] * (Math.floor(i / side) + 0.5);
    sum += data[i];
  }
  return { x: x / sum, y: y / sum };
}

/** Mean squared difference of a reconstruction, from 0 to 1, and an image of bytes, as aezoo measures it. */
export function meanSquaredError(reconstruction, image, offset = 0) {
  let sum = 0;
  for (let i = 0; i < image.length; i++) sum += (reconstruction[offset + i] - image[i] / 255) ** 2;
  return sum / image.length;
}

/** Reconstructions as bytes; values outside 0 to 1 are clipped. */
export function toBytes(values) {
  return Uint8Array.from(values, (value) => Math.round(255 * Math.min(1, Math.max(0, value))));
}

/**
 * Paints a gray image on a canvas of the same number of pixels, which the style sheet enlarges.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {ArrayLike<number>} values (height, width), flat; times `white`, these are bytes.
 */
export function paint(canvas, values, width = SIDE, height = SIDE, white = 1) {
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const pixels = new ImageData(width, height);
  const { data } = pixels;
  for (let i = 0; i < width * height; i++) {
    data[4 * i] = data[4 * i + 1] = data[4 * i + 2] = values[i] * white;
    data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}
