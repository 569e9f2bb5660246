// The example documents in the order of their file names, for the tabs of both
// IDEs. A tab is named after the first operation in it.
const files = import.meta.glob("./*.graphql", { query: "?raw", import: "default", eager: true });

export const examples = Object.keys(files)
  .sort()
  .map((path) => ({
    name: /^(?:query|mutation|subscription) (\w+)/m.exec(files[path])[1],
    query: files[path].trim(),
  }));
