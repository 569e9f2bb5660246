// The messages of a column from left to right, by their numbers: a tick for each
// that came, lower if it came late, red for each that is missing.
const lateAfter = 500; // milliseconds
const labels = 18; // pixels above the ticks

export class Strip {
  #canvas;

  constructor(canvas) {
    this.#canvas = canvas;
  }

  // span is how many messages there is room for; marks say what happened after
  // which of them.
  draw(tally, { span, marks }) {
    const canvas = this.#canvas;
    const scale = devicePixelRatio;
    const width = Math.round(canvas.clientWidth * scale);
    const height = Math.round(canvas.clientHeight * scale);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const colour = (name) => getComputedStyle(canvas).getPropertyValue(name);
    const top = labels * scale;
    const paint = canvas.getContext("2d");
    const bar = (x, w, share) => paint.fillRect(x, top + (height - top) * (1 - share), w, (height - top) * share);
    paint.clearRect(0, 0, width, height);
    paint.fillStyle = colour("--sunken");
    bar(0, width, 1);

    // A pixel stands for one message or for several, and shows the worst of them.
    const known = Math.max(tally.last, tally.total);
    for (let x = 0; x < width; x++) {
      const first = Math.floor((x / width) * span) + 1;
      const end = Math.max(first + 1, Math.floor(((x + 1) / width) * span) + 1);
      if (first > known) break;
      let lost = false;
      let late = false;
      for (let number = first; number < end && number <= known; number++) {
        const by = tally.late(number);
        lost ||= by === undefined;
        late ||= by > lateAfter;
      }
      paint.fillStyle = colour(lost ? "--lost" : late ? "--late" : "--came");
      bar(x, 1, late && !lost ? 0.7 : 1);
    }

    paint.fillStyle = colour("--text");
    paint.font = `${11.5 * scale}px ${getComputedStyle(document.body).fontFamily}`;
    for (const { label, number } of marks) {
      const x = Math.min(Math.round((number / span) * width), width - 1);
      paint.fillRect(x - scale / 2, top - 4 * scale, scale, height);
      const room = paint.measureText(label).width / 2;
      paint.textAlign = "center";
      paint.fillText(label, Math.min(Math.max(x, room), width - room), top - 6 * scale);
    }
  }
}
