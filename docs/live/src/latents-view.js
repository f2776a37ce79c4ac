// Latents as bars, cells or maps on a canvas, which a pointer and keys change.

import { lessMotion } from "./frame.js";
import { latentText } from "./numbers.js";

const BARS = 64; // Vectors of at most this many latents are shown as bars.
const STEPS = 20; // Presses of a key from the lowest to the highest value.
const DRAG = 160; // Pixels of a movement over cells from the lowest to the highest value.

export class LatentsView {
  /**
   * @param {HTMLCanvasElement} canvas has the role of a slider for the chosen latent.
   * @param {{onChoose: (index: number) => void, onChange: (index: number, value: number) => void,
   *   onReset: (index: number) => void}} events
   */
  constructor(canvas, events) {
    this.canvas = canvas;
    this.events = events;
    this.values = new Float32Array(0);
    this.shown = new Float32Array(0); // approaches `values`
    this.chosen = 0;
    canvas.addEventListener("pointerdown", (event) => this.pointerDown(event));
    canvas.addEventListener("pointermove", (event) => this.pointerMove(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (this.drag = null));
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(canvas);
    const theme = new MutationObserver(() => this.draw());
    theme.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  }

  /**
   * @param {number[]} shape of the latents.
   * @param {number[]} low the lowest value of each latent over the sample digits.
   * @param {number[]} high the highest.
   */
  setShape(shape, low, high) {
    this.shape = shape;
    [this.lowest, this.highest] = [low, high];
    // Latents are comparable: one scale for all of them, with zero on it.
    this.low = Math.min(0, ...low);
    this.high = Math.max(0, ...high);
    this.values = new Float32Array(low.length);
    this.shown = new Float32Array(low.length);
    this.bars = shape.length === 1 && low.length <= BARS;
    this.chosen = 0;
    this.canvas.dataset.kind = this.bars ? "bars" : "cells";
    this.place();
  }

  setValues(values, animate = true) {
    this.values = values;
    if (!animate || lessMotion()) this.shown = values.slice();
    this.describe();
    if (this.moving) return;
    this.moving = true;
    requestAnimationFrame(() => this.approach());
  }

  choose(index) {
    this.chosen = Math.min(this.values.length - 1, Math.max(0, index));
    this.describe();
    this.draw();
    this.events.onChoose(this.chosen);
  }

  approach() {
    let left = 0;
    for (let i = 0; i < this.values.length; i++) {
      this.shown[i] += 0.35 * (this.values[i] - this.shown[i]);
      left = Math.max(left, Math.abs(this.values[i] - this.shown[i]));
    }
    this.moving = left > 0.002 * (this.high - this.low);
    if (!this.moving) this.shown.set(this.values);
    this.draw();
    if (this.moving) requestAnimationFrame(() => this.approach());
  }

  // -- where things are ---------------------------------------------------------------------------------

  /** Rectangles of the latents in a square or wide box, in units of cells. */
  place() {
    const count = this.values.length;
    if (this.shape.length === 3) {
      const [maps, rows, columns] = this.shape;
      const across = Math.ceil(Math.sqrt(maps));
      const down = Math.ceil(maps / across);
      this.grid = { columns: across * (columns + 1) - 1, rows: down * (rows + 1) - 1 };
      this.cells = Array.from({ length: count }, (_, i) => {
        const [map, row, column] = [Math.floor(i / (rows * columns)), Math.floor(i / columns) % rows, i % columns];
        return [(map % across) * (columns + 1) + column, Math.floor(map / across) * (rows + 1) + row];
      });
    } else {
      const columns = this.bars ? count : 2 ** Math.ceil(Math.log2(count) / 2);
      this.grid = { columns, rows: this.bars ? 1 : Math.ceil(count / columns) };
      this.cells = Array.from({ length: count }, (_, i) => [i % columns, Math.floor(i / columns)]);
    }
    this.canvas.style.setProperty("--live-shape", this.bars ? "16 / 9" : `${this.grid.columns} / ${this.grid.rows}`);
  }

  indexAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * this.grid.columns - 0.5;
    const y = this.bars ? 0 : ((event.clientY - box.top) / box.height) * this.grid.rows - 0.5;
    let nearest = 0;
    const distance = ([column, row]) => (column - x) ** 2 + (this.bars ? 0 : (row - y) ** 2);
    this.cells.forEach((cell, i) => {
      if (distance(cell) < distance(this.cells[nearest])) nearest = i;
    });
    return nearest;
  }

  /** The value of a bar that ends where the pointer is. */
  valueAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const share = 1 - (event.clientY - box.top - 4) / (box.height - 8);
    return this.within(this.low + share * (this.high - this.low));
  }

  within(value) {
    return Math.min(this.high, Math.max(this.low, value));
  }

  // -- pointer and keys -----------------------------------------------------------------------------------

  pointerDown(event) {
    if (event.button !== 0 || this.values.length === 0) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.choose(this.indexAt(event));
    this.drag = { y: event.clientY, value: this.values[this.chosen], moved: false };
  }

  pointerMove(event) {
    if (!this.drag) return;
    if (!this.drag.moved && Math.abs(event.clientY - this.drag.y) < 3) return;
    this.drag.moved = true;
    const up = ((this.drag.y - event.clientY) / DRAG) * (this.high - this.low);
    this.events.onChange(this.chosen, this.bars ? this.valueAt(event) : this.within(this.drag.value + up));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || this.values.length === 0) return;
    const step = (this.high - this.low) / STEPS;
    const value = this.values[this.chosen];
    const change = { ArrowUp: value + step, ArrowDown: value - step, PageUp: value + 4 * step, PageDown: value - 4 * step };
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -this.chosen, End: this.values.length }[event.key];
    if (event.key in change) this.events.onChange(this.chosen, this.within(change[event.key]));
    else if (move !== undefined) this.choose(this.chosen + move);
    else if (event.key === "0" || event.key === "Delete") this.events.onChange(this.chosen, 0);
    else if (event.key === "r") this.events.onReset(this.chosen);
    else return;
    event.preventDefault();
  }

  describe() {
    if (this.values.length === 0) return;
    const value = this.values[this.chosen];
    this.canvas.setAttribute("aria-valuemin", this.low.toFixed(2));
    this.canvas.setAttribute("aria-valuemax", this.high.toFixed(2));
    this.canvas.setAttribute("aria-valuenow", latentText(value));
    this.canvas.setAttribute("aria-valuetext", `latent ${this.chosen + 1} of ${this.values.length}: ${latentText(value)}`);
  }

  // -- drawing --------------------------------------------------------------------------------------------

  draw() {
    const box = this.canvas.getBoundingClientRect();
    if (box.width === 0 || this.values.length === 0) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height) [this.canvas.width, this.canvas.height] = [width, height];
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, box.width, box.height);
    const style = getComputedStyle(this.canvas);
    const colours = Object.fromEntries(
      ["positive", "negative", "blank", "line", "range"].map((name) => [name, style.getPropertyValue(`--live-${name}`)]),
    );
    if (this.bars) this.drawBars(context, box, colours);
    else this.drawCells(context, box, colours);
  }

  drawBars(context, box, colours) {
    const count = this.values.length;
    const step = box.width / count;
    const gap = Math.min(8, step * 0.2);
    const y = (value) => 4 + (box.height - 8) * (1 - (value - this.low) / (this.high - this.low));
    for (let i = 0; i < count; i++) {
      const left = i * step + gap / 2;
      context.fillStyle = colours.range; // where the latent lies for the sample digits
      context.fillRect(left, y(this.highest[i]), step - gap, Math.max(1, y(this.lowest[i]) - y(this.highest[i])));
      const value = this.shown[i];
      context.fillStyle = value < 0 ? colours.negative : colours.positive;
      context.fillRect(left, Math.min(y(value), y(0)), step - gap, Math.abs(y(value) - y(0)));
    }
    context.fillStyle = colours.line;
    context.fillRect(0, y(0) - 0.5, box.width, 1);
    context.strokeStyle = colours.line;
    context.lineWidth = 2;
    const left = this.chosen * step;
    context.strokeRect(left + 1, 1, step - 2, box.height - 2);
  }

  drawCells(context, box, colours) {
    const [width, height] = [box.width / this.grid.columns, box.height / this.grid.rows];
    const gap = width > 6 ? 1 : 0.5;
    this.cells.forEach(([column, row], i) => {
      const value = this.shown[i];
      const place = [column * width + gap / 2, row * height + gap / 2, width - gap, height - gap];
      context.globalAlpha = 1;
      context.fillStyle = colours.blank;
      context.fillRect(...place);
      const most = value < 0 ? -this.low : this.high;
      context.globalAlpha = most > 0 ? Math.min(1, Math.abs(value) / most) ** 0.6 : 0;
      context.fillStyle = value < 0 ? colours.negative : colours.positive;
      context.fillRect(...place);
    });
    context.globalAlpha = 1;
    const [column, row] = this.cells[this.chosen];
    context.strokeStyle = colours.line;
    context.lineWidth = 2;
    context.strokeRect(column * width + 1, row * height + 1, Math.max(2, width - 2), Math.max(2, height - 2));
  }
}
