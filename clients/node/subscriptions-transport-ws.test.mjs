import { behaviours } from "./behaviours.mjs";

behaviours("subscriptions-transport-ws");
