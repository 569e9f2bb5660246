import { behaviours } from "./behaviours.mjs";

behaviours("Apollo Client over graphql-ws");
behaviours("Apollo Client over subscriptions-transport-ws");
