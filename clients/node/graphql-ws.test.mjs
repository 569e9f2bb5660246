import { behaviours } from "./behaviours.mjs";

behaviours("graphql-ws");
