// Records a page: a picture of its end, and an animated one of all of it.
import gifenc from "gifenc";
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { PNG } from "pngjs";

const { GIFEncoder, applyPalette } = gifenc;
const every = 500; // milliseconds from frame to frame
const speed = 2; // how much faster than it was
const hold = 6_000; // milliseconds for which the last frame stays
const colours = 255; // of a palette; one more is transparent

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
    const frames = this.#frames.map(({ at, png }) => ({ at, ...PNG.sync.read(png) }));
    const palette = mostFrequent([frames.at(-1), frames[frames.length >> 1], frames[0]]);
    let before;
    for (const [i, { at, width, height, data }] of frames.entries()) {
      const now = applyPalette(data, palette);
      const delay = i + 1 < frames.length ? (frames[i + 1].at - at) / speed : hold;
      if (before) {
        const changed = now.map((colour, pixel) => (colour === before[pixel] ? colours : colour));
        gif.writeFrame(changed, width, height, { delay, transparent: true, transparentIndex: colours, dispose: 1 });
      } else {
        gif.writeFrame(now, width, height, { delay, palette: [...palette, [0, 0, 0]] });
      }
      before = now;
    }
    gif.finish();
    return gif.bytes();
  }
}

// A page has few colours: those that it has most of stay as they are.
function mostFrequent(frames) {
  const count = new Map();
  for (const { data } of frames) {
    for (let i = 0; i < data.length; i += 4) {
      const colour = (data[i] << 16) | (data[i + 1] << 8) | data[i + 2];
      count.set(colour, (count.get(colour) ?? 0) + 1);
    }
  }
  const sorted = [...count].sort(([, a], [, b]) => b - a).slice(0, colours);
  const palette = sorted.map(([colour]) => [colour >> 16, (colour >> 8) & 255, colour & 255]);
  while (palette.length < colours) palette.push([0, 0, 0]);
  return palette;
}
