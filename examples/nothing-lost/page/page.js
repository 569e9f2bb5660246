// The page that the script opens: two columns that subscribe to the same room.
// The script tells it what happens, and reads the counters off it.
import { createClient } from "graphql-ws";
import { resuming } from "graphql-ws-resume";
import { Column } from "./column.js";

const given = new URLSearchParams(location.search);
const room = given.get("room");

// Both clients try again every two seconds for as long as it takes. By default
// graphql-ws waits for a time that is partly random: one side would be lucky.
const client = (url) =>
  createClient({
    url,
    shouldRetry: () => true,
    retryAttempts: Infinity,
    retryWait: () => new Promise((resolve) => setTimeout(resolve, 2_000)),
  });

// What the strips have in common.
const axis = { span: 1, marks: [] };

const $ = (id) => document.getElementById(id);
const columns = {
  sluice: new Column($("sluice"), resuming(client(given.get("sluice"))), room),
  stock: new Column($("stock"), client(given.get("stock")), room),
};

window.show = {
  // Whether both columns receive: something has come, and all up to this number.
  receive: (number) => Object.values(columns).every(({ heard, tally }) => heard && tally.last >= number),

  // About how many messages there will be.
  expect(number) {
    axis.span = number;
  },

  sent(number) {
    axis.span = Math.max(axis.span, number);
    $("sent").textContent = number.toLocaleString("en");
  },

  // What the script does now; state is one of those of the shape beside it.
  say(words, state) {
    $("now").dataset.state = state;
    $("now").lastElementChild.textContent = words;
  },

  mark(label, number) {
    axis.marks.push({ label, number });
  },

  // All have been sent that will be.
  end(total) {
    axis.span = total;
    this.sent(total);
    for (const { tally } of Object.values(columns)) tally.total = total;
    this.draw();
  },

  draw() {
    for (const column of Object.values(columns)) column.draw(axis);
  },
};

setInterval(window.show.draw, 100);
