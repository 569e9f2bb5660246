// The answers to a question of lesson.json, right and wrong, and what has to be
// said to each.

const both = ({ en, ja }) => ({ en, ja });

/** Each is { what, reply, right } with what is said: why, of a choice { choice, why }, place. */
export function answersTo(question) {
  return [
    { what: "the right answer", reply: rightReply(question), right: true, why: both(question.why) },
    ...wrong[question.kind](question),
  ];
}

/** The right answer, as submitAnswer takes it. */
export function rightReply({ kind, answer }) {
  if (kind === "number") return { number: answer.value };
  if (kind === "hex") return { hex: answer.value };
  return { choices: [answer].flat() };
}

/** A reply to any question that is wrong. */
export const noReply = { choices: [], number: -1e300, hex: "" };

// chosen is a wrong answer in which a choice is at fault.
const chosen = (choice, reply, place) => ({
  what: `choice ${choice.id}`,
  reply: { choices: reply },
  right: false,
  of: { choice: choice.id, ...both(choice.why ?? {}) },
  place,
});

const mistakes = (question, reply) =>
  question.mistakes.map((mistake) => ({
    what: `the mistake ${mistake.value}`,
    reply: reply(mistake.value),
    right: false,
    why: both(mistake.why),
  }));

const wrong = {
  single: ({ choices, answer }) =>
    choices.filter(({ id }) => id !== answer).map((choice) => chosen(choice, [choice.id])),
  multi: ({ choices, answer }) => [
    ...choices.filter(({ id }) => !answer.includes(id)).map((choice) => chosen(choice, [...answer, choice.id])),
    ...answer.map((id) => ({
      what: `all but ${id}`,
      reply: { choices: answer.filter((other) => other !== id) },
      right: false,
    })),
  ],
  // Each choice in the first place, but the one that belongs there.
  order: ({ choices, answer }) =>
    choices
      .filter(({ id }) => id !== answer[0])
      .map((choice) => chosen(choice, [choice.id, ...answer.filter((id) => id !== choice.id)], 1)),
  number: (question) => [
    ...mistakes(question, (number) => ({ number })),
    { what: "another number", reply: { number: question.answer.value + 1e9 }, right: false },
  ],
  hex: (question) => [
    ...mistakes(question, (hex) => ({ hex })),
    { what: "no bytes at all", reply: { hex: "zz" }, right: false },
  ],
};
