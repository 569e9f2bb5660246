// Records a page: a picture of its end, and an animated one of all of it.
import gifenc from "gifenc";
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { PNG } from "pngjs";

const { GIFEncoder, applyPalette, quantize } = gifenc;
const every = 500; // milliseconds from frame to frame
const speed = 2; // how much faster than it was
const hold = 6_000; // milliseconds for which the last frame stays
const colours = 128;

export class Film {
  static context = { viewport: { width: 960, height: 540 }, deviceScaleFactor: 2 };
  #page;
  #frames = []; // { at, png }
  #running = true;
  #recording;

  constructor(page) {
    this.#page = page;
    this.#recording = this.#record();
  }

  async #record() {
    while (this.#running) {
      const at = Date.now();
      this.#frames.push({ at, png: await this.#page.screenshot({ scale: "css" }) });
      await sleep(at + every - Date.now());
    }
  }

  // end stops and writes path.png and path.gif.
  async end(path) {
    this.#running = false;
    await this.#recording;
    writeFileSync(`${path}.png`, await this.#page.screenshot());
    this.#frames.push({ at: Date.now(), png: await this.#page.screenshot({ scale: "css" }) });
    writeFileSync(`${path}.gif`, this.#encode());
  }

  // Each frame holds what has changed; the rest of it is transparent.
  #encode() {
    const gif = GIFEncoder();
    const last = PNG.sync.read(this.#frames.at(-1).png);
    const middle = PNG.sync.read(this.#frames[this.#frames.length >> 1].png);
    const palette = quantize(Buffer.concat([middle.data, last.data]), colours);
    let before;
    for (const [i, { at, png }] of this.#frames.entries()) {
      const { width, height, data } = PNG.sync.read(png);
      const now = applyPalette(data, palette);
      const delay = i + 1 < this.#frames.length ? (this.#frames[i + 1].at - at) / speed : hold;
      if (before) {
        const changed = now.map((colour, pixel) => (colour === before[pixel] ? colours : colour));
        gif.writeFrame(changed, width, height, { delay, transparent: true, transparentIndex: colours, dispose: 1 });
      } else {
        const filled = Array.from({ length: colours + 1 }, (_, i) => palette[i] ?? [0, 0, 0]); // one more: transparent
        gif.writeFrame(now, width, height, { delay, palette: filled });
      }
      before = now;
    }
    gif.finish();
    return gif.bytes();
  }
}
