// Where the pages find the gateway: on the host that served them, one folder
// up, so that a proxy may add a prefix to all paths.
export const graphqlURL = new URL("../graphql", document.baseURI).href;
export const graphqlSocketURL = graphqlURL.replace(/^http/, "ws");
