// Records a page: a picture of its end, and an animated one of all of it.
import gifenc from "gifenc";
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { PNG } from "pngjs";

const { GIFEncoder, nearestColorIndex } = gifenc;
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

  stop() {
    this.#running = false;
    return this.#recording;
  }

  // write stops, and writes path.png and path.gif.
  async write(path) {
    await this.stop();
    writeFileSync(`${path}.png`, await this.#page.screenshot());
    this.#frames.push({ at: Date.now(), png: await this.#page.screenshot({ scale: "css" }) });
    writeFileSync(`${path}.gif`, this.#encode());
  }

  // Each frame holds what has changed; the rest of it is transparent.
  #encode() {
    const gif = GIFEncoder();
    const frames = this.#frames.map(({ at, png }) => ({ at, ...PNG.sync.read(png) }));
    const palette = mostFrequent(frames);
    const indexOf = new Map(palette.map((colour, index) => [packed(...colour), index]));
    const indexed = (data) => {
      const pixels = new Uint8Array(data.length / 4);
      for (let pixel = 0; pixel < pixels.length; pixel++) {
        const colour = data.subarray(pixel * 4, pixel * 4 + 3);
        const key = packed(...colour);
        if (!indexOf.has(key)) indexOf.set(key, nearestColorIndex(palette, colour));
        pixels[pixel] = indexOf.get(key);
      }
      return pixels;
    };
    let before;
    for (const [i, { at, width, height, data }] of frames.entries()) {
      const now = indexed(data);
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
      const key = packed(data[i], data[i + 1], data[i + 2]);
      count.set(key, (count.get(key) ?? 0) + 1);
    }
  }
  const sorted = [...count].sort(([, a], [, b]) => b - a).slice(0, colours);
  const palette = sorted.map(([key]) => [key >> 16, (key >> 8) & 255, key & 255]);
  while (palette.length < colours) palette.push([0, 0, 0]);
  return palette;
}

function packed(red, green, blue) {
  return (red << 16) | (green << 8) | blue;
}
