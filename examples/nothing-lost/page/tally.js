// What a column has seen of the messages 1, 2, 3 and so on.
export class Tally {
  received = 0;
  doubled = 0;
  reordered = 0; // came after one with a higher number
  last = 0; // the highest number
  total = 0; // how many there are, once that is known
  #seen = new Map(); // from number to how late it came

  // A message has come, `late` milliseconds after the room took it.
  take(number, late) {
    if (this.#seen.has(number)) {
      this.doubled++;
      return;
    }
    if (number < this.last) this.reordered++;
    this.#seen.set(number, late);
    this.received++;
    this.last = Math.max(this.last, number);
  }

  // What is missing below the highest number, or of all that there are.
  get lost() {
    return Math.max(this.last, this.total) - this.received;
  }

  // How late a message came; undefined: it has not come.
  late(number) {
    return this.#seen.get(number);
  }
}
