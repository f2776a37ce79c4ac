// Ten buttons, one for each digit; each press picks the next example of it.

import { paint } from "./image.js";

export class DigitPicker {
  /**
   * @param {HTMLElement} row is filled with the buttons.
   * @param {{images: Uint8Array, labels: number[]}} digits
   * @param {(index: number) => void} onPick called with the number of a sample digit.
   */
  constructor(row, digits, onPick) {
    this.digits = digits;
    this.onPick = onPick;
    this.examples = Array.from({ length: 10 }, (_, digit) => {
      return digits.labels.flatMap((label, index) => (label === digit ? [index] : []));
    });
    this.next = new Array(10).fill(0);
    this.buttons = this.examples.map((_, digit) => this.button(digit));
    row.replaceChildren(...this.buttons);
  }

  /** Picks the next example of a digit and returns its number. */
  pick(digit) {
    const examples = this.examples[digit];
    const index = examples[this.next[digit]];
    this.next[digit] = (this.next[digit] + 1) % examples.length;
    this.show(digit);
    this.onPick(index);
    return index;
  }

  button(digit) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "live-digit";
    button.append(document.createElement("canvas"));
    button.addEventListener("click", () => this.pick(digit));
    this.show(digit, button);
    return button;
  }

  show(digit, button = this.buttons[digit]) {
    const index = this.examples[digit][this.next[digit]];
    paint(button.firstChild, this.digits.images.subarray(index * 784, (index + 1) * 784));
    button.setAttribute("aria-label", `A ${digit}: example ${this.next[digit] + 1} of ${this.examples[digit].length}`);
  }
}
