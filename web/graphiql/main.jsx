// GraphiQL on the gateway's own schema: queries and mutations over POST,
// subscriptions over WebSocket with the subprotocol graphql-transport-ws.
import "graphiql/setup-workers/vite";
import "graphiql/style.css";

import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import { Kind, parse } from "graphql";
import { createClient } from "graphql-ws";
import { createRoot } from "react-dom/client";

import { graphqlSocketURL, graphqlURL } from "../endpoints.js";
import { examples } from "../examples/index.js";

const send = createGraphiQLFetcher({
  url: graphqlURL,
  // A running subscription outlives a restart of the gateway.
  wsClient: createClient({ url: graphqlSocketURL, retryAttempts: 30 }),
});

// Who runs a tab in the first half second after opening it gets the operation
// name and the parsed document of the tab before: GraphiQL renews them late.
// Whether a socket is needed depends on both, so they are made from the query.
function fetcher(params, options) {
  let documentAST;
  try {
    documentAST = parse(params.query);
  } catch {
    return send(params, options); // the gateway explains what is wrong with it
  }
  const names = documentAST.definitions
    .filter(({ kind }) => kind === Kind.OPERATION_DEFINITION)
    .map(({ name }) => name?.value);
  const operationName = names.includes(params.operationName) ? params.operationName : names[0];
  return send({ ...params, operationName }, { ...options, documentAST });
}

createRoot(document.getElementById("graphiql")).render(
  <GraphiQL fetcher={fetcher} defaultTabs={examples.map(({ query }) => ({ query }))}>
    <GraphiQL.Logo>
      <a href="../">Sluice</a>
    </GraphiQL.Logo>
  </GraphiQL>,
);
