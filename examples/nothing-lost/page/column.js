// One side of the page: an Apollo Client that subscribes to the room, what it
// has received, and how that is shown.
import { ApolloClient, InMemoryCache, gql } from "@apollo/client/core";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { Strip } from "./strip.js";
import { Tally } from "./tally.js";

const messages = gql`
  subscription Messages($room: ID!) {
    messageUpdates(room: $room) {
      content
      timestamp
    }
  }
`;

export class Column {
  tally = new Tally();
  heard = false; // whether anything has come yet
  #root;
  #strip;

  // client is one of graphql-ws.
  constructor(root, client, room) {
    this.#root = root;
    this.#strip = new Strip(root.querySelector("canvas"));
    client.on("connected", () => this.#connection("open", "connected"));
    client.on("closed", () => this.#connection("away", "away"));
    new ApolloClient({ link: new GraphQLWsLink(client), cache: new InMemoryCache() })
      .subscribe({ query: messages, variables: { room }, fetchPolicy: "no-cache" })
      .subscribe({
        next: ({ data, error }) => (error ? this.#ended(error) : this.#take(data.messageUpdates)),
        error: (error) => this.#ended(error),
        complete: () => this.#ended("the server has completed it"),
      });
  }

  #take({ content, timestamp }) {
    this.heard = true;
    const number = Number(content);
    if (number > 0) this.tally.take(number, Date.now() - Date.parse(timestamp)); // before the first: "ready"
  }

  #connection(state, words) {
    const line = this.#root.querySelector(".state");
    line.dataset.state = state;
    line.lastElementChild.textContent = words;
  }

  #ended(why) {
    this.#connection("away", `the subscription has ended: ${why.message ?? why}`);
  }

  draw(axis) {
    for (const counter of this.#root.querySelectorAll("[data-counter]")) {
      const value = this.tally[counter.dataset.counter];
      counter.textContent = value.toLocaleString("en");
      counter.dataset.value = value;
    }
    this.#strip.draw(this.tally, axis);
  }
}
