// The networks: what there is, and encoders and decoders that are loaded when they are first asked for.

import * as ort from "./vendor/onnxruntime.js";
import { readBytes } from "./bytes.js";

/** Pixels of an image. */
export const PIXELS = 28 * 28;

/** One network, ready to run. Images are bytes as in MNIST; a batch of them is one array. */
export class Network {
  /**
   * @param {string} name
   * @param {object} entry what networks.json says of it.
   * @param {{encoder: ort.InferenceSession, decoder: ort.InferenceSession}} sessions
   */
  constructor(name, entry, sessions) {
    this.name = name;
    this.entry = entry;
    this.size = entry.latents.reduce((product, size) => product * size, 1);
    this.sessions = sessions;
  }

  /**
   * The latents of images.
   *
   * @param {Uint8Array} images (batch, 28, 28), flat.
   * @returns {Promise<{latents: Float32Array, preActivations: Float32Array?}>} (batch, latents), flat. Encoders
   *   that end with a top-k layer also give the values among which it chooses.
   */
  async encode(images) {
    const input = new ort.Tensor("uint8", images, [images.length / PIXELS, 1, 28, 28]);
    const found = await inTurn(() => this.sessions.encoder.run({ input }));
    return { latents: found.latents.data, preActivations: found.pre_activations?.data };
  }

  /**
   * The images of latents.
   *
   * @param {Float32Array} latents (batch, latents), flat.
   * @returns {Promise<Float32Array>} (batch, 28, 28), flat; values from about 0 to about 1.
   */
  async decode(latents) {
    const input = new ort.Tensor("float32", latents, [latents.length / this.size, ...this.entry.latents]);
    const found = await inTurn(() => this.sessions.decoder.run({ latents: input }));
    return found.reconstruction.data;
  }
}

/** What networks.json describes. */
export class Networks {
  /**
   * @param {URL} base the folder of the page's files.
   * @param {object} description the content of networks.json.
   */
  constructor(base, description) {
    this.base = base;
    this.description = description;
    this.loaded = new Map(); // name -> promise of the network
    this.ready = new Set(); // names of networks that can run now
    this.runtime = null; // promise
    this.started = false;
  }

  /** Reads networks.json. */
  static async open(base) {
    const text = new TextDecoder().decode(await readBytes(new URL("networks.json", base)));
    return new Networks(base, JSON.parse(text));
  }

  /** What networks.json says of a network. */
  entry(name) {
    return this.description.networks[name];
  }

  /** Bytes that still have to be loaded before a network can run. */
  missingBytes(names) {
    const runtime = this.started ? 0 : this.description.runtime.bytes;
    const missing = names.filter((name) => !this.ready.has(name));
    return missing.length === 0 ? 0 : runtime + missing.reduce((sum, name) => sum + this.entry(name).bytes, 0);
  }

  /** Loads a network, once. After an error, the next call tries again. */
  load(name) {
    if (!this.loaded.has(name)) {
      const promise = this.open(name);
      promise.catch(() => this.loaded.delete(name));
      this.loaded.set(name, promise);
    }
    return this.loaded.get(name);
  }

  /** The sample digits: `images`, (count, 28, 28) as bytes, flat, and `labels`. */
  async digits() {
    const { file, labels } = this.description.digits;
    return { images: await readBytes(new URL(file, this.base)), labels };
  }

  async open(name) {
    const { files } = this.entry(name);
    const [encoder, decoder] = await Promise.all([
      readBytes(new URL(files.encoder, this.base)),
      readBytes(new URL(files.decoder, this.base)),
      this.start(),
    ]);
    const sessions = {
      encoder: await inTurn(() => ort.InferenceSession.create(encoder)),
      decoder: await inTurn(() => ort.InferenceSession.create(decoder)),
    };
    this.ready.add(name);
    return new Network(name, this.entry(name), sessions);
  }

  /** Starts ONNX Runtime on one thread, which needs no headers of the server. */
  start() {
    if (this.runtime === null) {
      this.runtime = readBytes(new URL(this.description.runtime.file, this.base)).then((bytes) => {
        ort.env.wasm.numThreads = 1;
        ort.env.wasm.wasmBinary = bytes;
        ort.env.logLevel = "error";
        this.started = true;
      });
      this.runtime.catch(() => (this.runtime = null));
    }
    return this.runtime;
  }
}

let last = Promise.resolve();

/** Runs one network at a time: the runtime has one thread. */
function inTurn(run) {
  const result = last.then(run);
  last = result.catch(() => {});
  return result;
}
