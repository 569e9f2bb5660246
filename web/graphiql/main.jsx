// GraphiQL on the gateway's own schema: queries and mutations over POST,
// subscriptions over WebSocket with the subprotocol graphql-transport-ws.
import "graphiql/setup-workers/vite";
import "graphiql/style.css";

import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import { createClient } from "graphql-ws";
import { createRoot } from "react-dom/client";

import { graphqlSocketURL, graphqlURL } from "../endpoints.js";
import { examples } from "../examples/index.js";

const fetcher = createGraphiQLFetcher({
  url: graphqlURL,
  // A running subscription outlives a restart of the gateway.
  wsClient: createClient({ url: graphqlSocketURL, retryAttempts: 30 }),
});

createRoot(document.getElementById("graphiql")).render(
  <GraphiQL fetcher={fetcher} defaultTabs={examples.map(({ query }) => ({ query }))}>
    <GraphiQL.Logo>
      <a href="../">Sluice</a>
    </GraphiQL.Logo>
  </GraphiQL>,
);
