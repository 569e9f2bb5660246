// Where the pages find the gateway: on the host that served them, one folder
// up, so that a proxy may add a prefix to all paths. The development server is
// another host than the gateway, and says where that is.
const elsewhere = import.meta.env.VITE_WS_GRAPHQL_URL;

export const graphqlSocketURL = elsewhere ?? new URL("../graphql", document.baseURI).href.replace(/^http/, "ws");
export const graphqlURL = graphqlSocketURL.replace(/^ws/, "http");
