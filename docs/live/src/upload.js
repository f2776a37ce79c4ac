// Pictures of the reader: decoded by the browser, which sends them nowhere.

import { SHEET } from "./sheet.js";
import { SIDE, uncentred } from "./image.js";

const LARGEST = 50e6; // bytes
const LEVELS = [0.2, 0.9]; // of the way from paper to ink: what counts as blank, and as full
const FLAT = 12; // of 255: pictures with less contrast show nothing

/**
 * Reads a picture.
 *
 * @param {File} file
 * @returns {Promise<{ink: Float32Array, raw: Uint8Array, inverted: boolean}>} `ink`: the picture on the sheet, with
 *   the paper as 0 and the ink as 1; `raw`: its gray values in 28 x 28 pixels, unchanged if it has that size.
 * @throws {Error} in words for the reader of the page.
 */
export async function readPicture(file) {
  const name = file.name || "The file";
  if (file.size === 0) throw new Error(`${name} is empty.`);
  if (file.size > LARGEST) throw new Error(`${name} has more than ${LARGEST / 1e6} MB.`);
  const picture = await decoded(file, name);
  try {
    const gray = grays(picture);
    const { ink, inverted } = inkOn(gray, name);
    const exact = picture.naturalWidth === SIDE && picture.naturalHeight === SIDE;
    const raw = exact ? grays(picture, SIDE).data.map(Math.round) : onBlack(gray);
    return { ink, raw: Uint8Array.from(raw), inverted };
  } finally {
    URL.revokeObjectURL(picture.src);
  }
}

async function decoded(file, name) {
  const picture = new Image();
  picture.src = URL.createObjectURL(file);
  try {
    await picture.decode();
  } catch {
    URL.revokeObjectURL(picture.src);
    throw new Error(`${name} is not a picture that this browser can read. Use a PNG, JPEG, WebP, GIF or SVG file.`);
  }
  if (picture.naturalWidth === 0 || picture.naturalHeight === 0) {
    URL.revokeObjectURL(picture.src);
    throw new Error(`${name} does not state its size.`);
  }
  return picture;
}

/** Gray values from 0 to 255 on a square; transparent parts are white, or black if the rest is nearly white. */
function grays(picture, side = SHEET) {
  const white = composed(picture, side, "white");
  const inside = white.data.filter((_, i) => white.inside[i]);
  return Math.min(...inside) > 255 - FLAT ? composed(picture, side, "black") : white;
}

function composed(picture, side, background) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const scale = side / Math.max(picture.naturalWidth, picture.naturalHeight);
  const [width, height] = [picture.naturalWidth * scale, picture.naturalHeight * scale];
  const [left, top] = [(side - width) / 2, (side - height) / 2];
  context.fillStyle = background;
  context.fillRect(0, 0, side, side);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, left, top, width, height);
  const { data } = context.getImageData(0, 0, side, side);
  const gray = Float32Array.from({ length: side * side }, (_, i) => {
    return 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2];
  });
  const inside = gray.map((_, i) => {
    const [x, y] = [i % side, Math.floor(i / side)];
    return x >= Math.ceil(left) && x < Math.floor(left + width) && y >= Math.ceil(top) && y < Math.floor(top + height);
  });
  // A picture of one row or column may cover no whole cell.
  return { data: gray, inside: inside.includes(1) ? inside : inside.fill(1), side };
}

/** Ink and paper: the paper is what most of the border shows, and becomes 0. */
function inkOn({ data, inside, side }, name) {
  const values = [...data.filter((_, i) => inside[i])].sort((a, b) => a - b);
  const [low, high] = [values[0], values[values.length - 1]];
  if (high - low < FLAT) throw new Error(`${name} is of one colour; there is nothing to see in it.`);
  const border = [...data.filter((_, i) => inside[i] && isBorder(inside, side, i))].sort((a, b) => a - b);
  const paper = border[Math.floor(border.length / 2)];
  const inverted = paper > (low + high) / 2;
  const full = inverted ? low : high;
  const ink = data.map((value, i) => {
    const share = inside[i] ? (value - paper) / (full - paper) : 0;
    return Math.min(1, Math.max(0, (share - LEVELS[0]) / (LEVELS[1] - LEVELS[0])));
  });
  return { ink, inverted };
}

function isBorder(inside, side, i) {
  const [x, y] = [i % side, Math.floor(i / side)];
  const at = (u, v) => u >= 0 && v >= 0 && u < side && v < side && inside[v * side + u];
  return !at(x - 1, y) || !at(x + 1, y) || !at(x, y - 1) || !at(x, y + 1);
}

function onBlack({ data, inside, side }) {
  return uncentred({ data: data.map((value, i) => (inside[i] ? value / 255 : 0)), side });
}
