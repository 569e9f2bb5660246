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
script.addEventListener("error", () => {
  root.textContent = "GraphQL Playground could not be loaded from the gateway. Reload the page to try again.";
});
document.body.append(script);
