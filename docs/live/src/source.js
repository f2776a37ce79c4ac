// The image that every experiment looks at: drawn, one of the sample digits, or a picture of the reader.

import { DigitPicker } from "./digit-picker.js";
import { perFrame } from "./frame.js";
import { centred, paint, uncentred } from "./image.js";
import { inkOf, Sheet } from "./sheet.js";
import { readPicture } from "./upload.js";

/** The card with the sheet. It dispatches `change` whenever `image` did. */
export class Source extends EventTarget {
  /**
   * @param {{images: Uint8Array, labels: number[]}} digits
   */
  constructor(digits) {
    super();
    this.image = new Uint8Array(28 * 28);
    this.exact = null; // an image that is used as it is: a sample digit, or the gray values of a picture
    this.uploads = 0; // files that were chosen
    this.answered = 0; // of which are shown or refused
    this.preview = document.getElementById("live-preview");
    this.status = document.getElementById("live-source-status");
    this.centre = document.getElementById("live-centre");
    this.sheet = new Sheet(document.getElementById("live-sheet"), () => this.drawn());
    this.compute = perFrame(async () => this.update(), (error) => this.say(error.message, true));
    this.picker = new DigitPicker(document.getElementById("live-digits"), digits, (index) => this.pick(index));
    this.digits = digits;
    this.centre.addEventListener("change", () => this.compute());
    document.getElementById("live-clear").addEventListener("click", () => this.sheet.clear());
    document.getElementById("live-undo").addEventListener("click", () => {
      if (!this.sheet.undo()) this.say("There is nothing to take back.");
    });
    this.listenForPictures();
  }

  /** Shows a sample digit, byte for byte. */
  pick(index) {
    const image = this.digits.images.slice(index * 784, (index + 1) * 784);
    this.use(image, inkOf(image), `Test image ${index}: a ${this.digits.labels[index]}.`);
  }

  /** Uses an image as it is. */
  use(image, ink, text) {
    this.exact = { sample: image };
    this.sheet.replace(ink);
    this.say(text);
    this.update();
  }

  drawn() {
    this.exact = null;
    this.say("");
    this.compute();
  }

  update() {
    const centre = this.centre.checked;
    if (this.exact?.sample) this.image = this.exact.sample;
    else if (this.exact?.raw && !centre) this.image = this.exact.raw;
    else this.image = centre ? centred(this.sheet.ink) : uncentred(this.sheet.ink);
    paint(this.preview, this.image);
    this.dispatchEvent(new Event("change"));
  }

  listenForPictures() {
    const input = document.getElementById("live-upload");
    input.addEventListener("change", () => {
      if (input.files.length > 0) this.upload(input.files[0]);
      input.value = ""; // so that choosing the same file again counts
    });
    const card = document.getElementById("live-source");
    card.addEventListener("dragover", (event) => {
      event.preventDefault();
      card.classList.add("dropping");
    });
    card.addEventListener("dragleave", () => card.classList.remove("dropping"));
    card.addEventListener("drop", (event) => {
      event.preventDefault();
      card.classList.remove("dropping");
      if (event.dataTransfer.files.length > 0) this.upload(event.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (event) => {
      if (event.clipboardData?.files.length > 0) this.upload(event.clipboardData.files[0]);
    });
  }

  /** Shows a picture; after an error, the image stays what it was. */
  async upload(file) {
    this.uploads += 1;
    const upload = this.uploads;
    try {
      const { ink, raw, inverted } = await readPicture(file);
      if (upload === this.uploads) this.show(file.name, ink, raw, inverted); // no later file was faster
    } catch (error) {
      if (upload === this.uploads) this.say(`${error.message} The image is the one from before.`, true);
    }
    this.answered += 1;
  }

  show(name, ink, raw, inverted) {
    this.exact = { raw };
    this.sheet.replace(ink);
    const inks = inverted && this.centre.checked;
    this.say(`${name}${inks ? ": its light background became black, as in MNIST." : " is shown."}`);
    this.update();
  }

  say(text, isError = false) {
    this.status.textContent = text;
    this.status.classList.toggle("live-error", isError);
  }
}
