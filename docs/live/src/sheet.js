// The sheet that is drawn on: ink on a grid, a pen that pointers and keys move, and undo.

import { paint } from "./image.js";

const UNDO = 30; // Sheets that are remembered.
const PEN = 6.5; // Radius of the pen in cells.
export const SHEET = 140; // Cells of the sheet per axis: 5 for each of the 28 pixels.

/** Ink on a canvas. Calls `onStroke` whenever ink was added, cleared or taken back by the reader. */
export class Sheet {
  /**
   * @param {HTMLCanvasElement} canvas can have the focus; keys move a pen.
   * @param {() => void} onStroke
   */
  constructor(canvas, onStroke) {
    this.canvas = canvas;
    this.onStroke = onStroke;
    this.ink = { data: new Float32Array(SHEET * SHEET), side: SHEET };
    this.earlier = [];
    this.pen = null; // where the keyboard's pen is, once a key was pressed
    this.penDown = false;
    canvas.width = canvas.height = SHEET;
    canvas.addEventListener("pointerdown", (event) => this.pointerDown(event));
    canvas.addEventListener("pointermove", (event) => this.pointerMove(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (this.last = null));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.hidePen());
    this.show();
  }

  /** Replaces the ink without calling `onStroke`; the earlier ink can be taken back. */
  replace(data) {
    this.remember();
    this.ink.data.set(data);
    this.show();
  }

  clear() {
    this.replace(new Float32Array(SHEET * SHEET));
    this.onStroke();
  }

  /** Takes the last stroke back; false if there is none. */
  undo() {
    const data = this.earlier.pop();
    if (data === undefined) return false;
    this.ink.data.set(data);
    this.show();
    this.onStroke();
    return true;
  }

  remember() {
    this.earlier.push(this.ink.data.slice());
    if (this.earlier.length > UNDO) this.earlier.shift();
  }

  /** Draws a line between two points, in cells. */
  stroke(from, to) {
    const { data } = this.ink;
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    const length = dx * dx + dy * dy;
    const bound = (value) => Math.min(SHEET - 1, Math.max(0, Math.round(value)));
    const [top, bottom] = [bound(Math.min(from.y, to.y) - PEN - 1), bound(Math.max(from.y, to.y) + PEN + 1)];
    const [left, right] = [bound(Math.min(from.x, to.x) - PEN - 1), bound(Math.max(from.x, to.x) + PEN + 1)];
    for (let y = top; y <= bottom; y++) {
      for (let x = left; x <= right; x++) {
        const along = length === 0 ? 0 : ((x + 0.5 - from.x) * dx + (y + 0.5 - from.y) * dy) / length;
        const t = Math.min(1, Math.max(0, along));
        const distance = Math.hypot(x + 0.5 - from.x - t * dx, y + 0.5 - from.y - t * dy);
        const ink = Math.min(1, Math.max(0, (PEN + 1 - distance) / 2));
        data[y * SHEET + x] = Math.max(data[y * SHEET + x], ink);
      }
    }
    this.show();
    this.onStroke();
  }

  pointerDown(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.hidePen();
    this.remember();
    this.last = this.place(event);
    this.stroke(this.last, this.last);
  }

  pointerMove(event) {
    if (!this.last) return;
    // Browsers deliver a fast movement as one event that holds all its points.
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length > 0 ? events : [event]) {
      const to = this.place(one);
      this.stroke(this.last, to);
      this.last = to;
    }
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * SHEET,
      y: ((event.clientY - box.top) / box.height) * SHEET,
    };
  }

  key(event) {
    const step = event.shiftKey ? 10 : 4;
    const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if ((event.ctrlKey || event.metaKey) && event.key === "z") this.undo();
    else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key === " ") this.togglePen();
    else if (event.key === "Delete" || event.key === "Backspace") this.clear();
    else if (move) this.movePen(...move);
    else return;
    event.preventDefault();
  }

  togglePen() {
    this.pen ??= { x: SHEET / 2, y: SHEET / 2 };
    this.penDown = !this.penDown;
    if (this.penDown) {
      this.remember();
      this.stroke(this.pen, this.pen);
    }
    this.show();
  }

  movePen(dx, dy) {
    const from = this.pen ?? { x: SHEET / 2, y: SHEET / 2 };
    const bound = (value) => Math.min(SHEET - PEN, Math.max(PEN, value));
    this.pen = { x: bound(from.x + dx), y: bound(from.y + dy) };
    if (this.penDown) this.stroke(from, this.pen);
    this.show();
  }

  hidePen() {
    [this.pen, this.penDown] = [null, false];
    this.show();
  }

  show() {
    paint(this.canvas, this.ink.data, SHEET, SHEET, 255);
    const context = this.canvas.getContext("2d");
    if (this.pen === null) return;
    context.beginPath();
    context.arc(this.pen.x, this.pen.y, PEN, 0, 2 * Math.PI);
    context.strokeStyle = "#ff9d45";
    context.lineWidth = 1.5;
    context.stroke();
    if (this.penDown) {
      context.fillStyle = "#ff9d4599";
      context.fill();
    }
  }
}

/** An image of 28 x 28 bytes as ink on the sheet. */
export function inkOf(image) {
  const cells = SHEET / 28;
  return Float32Array.from({ length: SHEET * SHEET }, (_, i) => {
    const x = Math.floor((i % SHEET) / cells);
    const y = Math.floor(Math.floor(i / SHEET) / cells);
    return image[y * 28 + x] / 255;
  });
}
