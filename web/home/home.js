// The live panel: one WebSocket to the gateway, spoken by hand.
// Protocol: https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
const $ = (id) => document.getElementById(id);
const graphqlURL = new URL("graphql", document.baseURI).href;
const socketURL = graphqlURL.replace(/^http/, "ws");

// ---- The connection

let socket; // the current one
let operation = 0; // the id of the running subscription; an id is used once per connection
let paused = false;
let attempts = 0; // connections in a row without an event
let lastWords = ""; // why this page closed the connection itself
let retryTimer;

function connect() {
  clearTimeout(retryTimer);
  show("connecting", "Connecting");
  socket = new WebSocket(socketURL, "graphql-transport-ws");
  socket.onopen = () => send({ type: "connection_init" });
  socket.onmessage = ({ data }) => receive(data);
  socket.onclose = ({ code, reason }) => closed(code, reason);
}

function receive(text) {
  list("received", text);
  const message = JSON.parse(text);
  if (message.id && message.id !== String(operation)) return; // of a subscription that was paused just now
  switch (message.type) {
    case "connection_ack":
      if (paused) show("paused", "Paused");
      else subscribe();
      break;
    case "next":
      attempts = 0;
      $("clock").textContent = message.payload.data?.timeUpdates ?? message.payload.errors?.[0]?.message ?? "–";
      break;
    case "error":
      lastWords = `The gateway refuses the subscription: ${message.payload?.[0]?.message ?? "no reason given"}`;
      socket.close(1000);
      break;
    case "complete":
      lastWords = "The gateway has ended the subscription.";
      socket.close(1000);
      break;
    case "ping":
      send({ type: "pong" });
      break;
  }
}

function subscribe() {
  show("open", "Connected");
  send({ id: String(++operation), type: "subscribe", payload: { query: "subscription { timeUpdates }" } });
}

function send(message) {
  const text = JSON.stringify(message);
  socket.send(text);
  list("sent", text);
}

// After a close the page tries again: after 1, 2, 4, 8 and then every 15 seconds.
function closed(code, reason) {
  const seconds = Math.min(2 ** attempts++, 15);
  show("away", "Not connected");
  let why = lastWords || `The gateway closed the connection: ${code} ${reason}`.trim().replace(/\.?$/, ".");
  if (code === 1006) why = "The gateway does not answer."; // the connection ended without a word
  lastWords = "";
  countDown(why, seconds);
}

function countDown(why, seconds) {
  $("away").hidden = false;
  $("away-text").textContent = `${why} Next try in ${seconds} s.`;
  retryTimer = setTimeout(() => (seconds > 1 ? countDown(why, seconds - 1) : connect()), 1000);
}

// ---- The panel

const times = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const utf8 = new TextEncoder();
const rows = 8;

// A payload may be anything: it enters the page as text only.
function list(direction, text) {
  const row = document.createElement("tr");
  row.className = direction;
  row.setAttribute("role", "row");
  for (const [name, content] of [
    ["time", times.format()],
    ["direction", direction === "sent" ? "→ sent" : "← received"],
    ["text", text],
    ["size", `${utf8.encode(text).length} B`],
  ]) {
    const cell = document.createElement("td");
    cell.className = name;
    cell.setAttribute("role", "cell");
    cell.textContent = content;
    if (name === "text") cell.title = text;
    row.append(cell);
  }
  $("frames").prepend(row);
  while ($("frames").childElementCount > rows) $("frames").lastElementChild.remove();
}

function show(state, text) {
  $("state").dataset.state = state;
  // Setting the same text again would make a screen reader say it again.
  if ($("state-text").textContent !== text) $("state-text").textContent = text;
  if (state !== "away") $("away").hidden = true;
  const connected = state === "open" || state === "paused";
  $("pause").disabled = !connected;
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").textContent = paused ? "Resume" : "Pause";
  if (paused) {
    send({ id: String(operation), type: "complete" });
    operation++;
    show("paused", "Paused");
  } else {
    subscribe();
  }
});

$("retry").addEventListener("click", () => {
  $("live-title").focus({ preventScroll: true }); // this button is about to go
  connect();
});

// ---- The commands

for (const button of document.querySelectorAll(".copy")) {
  const code = button.previousElementSibling;
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      tell(button, "Copied");
    } catch {
      // Browsers allow the clipboard on https and loopback only.
      getSelection().selectAllChildren(code);
      tell(button, "Selected: press Ctrl+C or Cmd+C");
    }
  });
}

function tell(button, text) {
  button.textContent = text;
  $("announce").textContent = text;
  setTimeout(() => {
    button.textContent = "Copy";
    $("announce").textContent = "";
  }, 3000);
}

$("socket-url").textContent = socketURL;
connect();
