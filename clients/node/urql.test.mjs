import { behaviours } from "./behaviours.mjs";

behaviours("urql over graphql-ws");
