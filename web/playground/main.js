// GraphQL Playground on the gateway's own schema. It is a finished product of
// 2021 and speaks the legacy subprotocol graphql-ws: the proof that old clients
// work unchanged. For daily work there is GraphiQL.
import "playground-bundle/css/middleware.css";
import bundle from "playground-bundle/js/middleware.js?url";

import { graphqlSocketURL, graphqlURL } from "../endpoints.js";
import { examples } from "../examples/index.js";

const root = document.getElementById("root");
const script = document.createElement("script");
script.src = bundle;
script.addEventListener("load", () => {
  window.GraphQLPlayground.init(root, {
    endpoint: graphqlURL,
    subscriptionEndpoint: graphqlSocketURL,
    tabs: examples.map(({ name, query }) => ({ name, query, endpoint: graphqlURL })),
    settings: {
      "editor.theme": matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light",
      "request.credentials": "same-origin",
      // Asking for the schema every two seconds would fill the gateway's log.
      "schema.polling.enable": false,
    },
  });
});

// Playground learns which operations a tab has when its text is edited; until
// then it runs the first one, whatever is chosen. So an example is handed to its
// editor once more when somebody moves in it.
let learnt;
function learn() {
  const editor = document.querySelector(".CodeMirror")?.CodeMirror;
  const text = editor?.getValue();
  if (text === learnt || !examples.some(({ query }) => query === text)) return;
  learnt = text;
  const cursor = editor.getCursor();
  editor.setValue(text);
  editor.setCursor(cursor);
}
for (const event of ["pointermove", "keydown"]) root.addEventListener(event, learn, { capture: true });

script.addEventListener("error", () => {
  root.textContent = "GraphQL Playground could not be loaded from the gateway. Reload the page to try again.";
});
document.body.append(script);
