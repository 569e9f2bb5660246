// Plays the reference clients of every lesson against a gateway, and says what is
// wrong with the lessons, the clients or the gateway.
import { answersTo, noReply, rightReply } from "./quiz.mjs";
import { startLab } from "./lab.mjs";

const locales = { en: "EN", ja: "JA" };

// in2 asks for a field in both languages.
const in2 = (field, name = "") =>
  Object.entries(locales)
    .map(([language, locale]) => `${language}${name}: ${field}(locale: ${locale})`)
    .join(" ");

const lessonsQuery = `query ($after: Cursor) { lessons(first: 2, after: $after) { next nodes {
  slug ${in2("title", "Title")} ${in2("objectives", "Objectives")} ${in2("html", "Html")}
  steps { id ${in2("title")} ${in2("hints", "Hints")} }
  questions { id kind ${in2("prompt")} ${in2("unit", "Unit")} choices { id ${in2("text")} } }
} } }`;

export const eventsQuery = `subscription ($session: ID, $lesson: ID, $after: Cursor) {
  lessonEvents(session: $session, lesson: $lesson, after: $after) {
    __typename cursor at lesson { slug }
    ... on StepTicked { step { id } ${in2("because")} places { number connection frame } }
    ... on NearMiss { step { id } ${in2("sentence")} places { number connection frame } }
    ... on QuestionAnswered { question { id } right }
  } }`;

const statesQuery = `query ($id: ID!) { labSession(id: $id) { steps { step ticked en: sentence(locale: EN) } } }`;

const answerMutation = `mutation ($input: SubmitAnswerInput!) { submitAnswer(input: $input) {
  right ${in2("why")} place reasons { choice ${in2("why")} } } }`;

/**
 * Checks a course, as courseOf returns it. patience is how long to wait for what
 * a run has brought about once it is over, limit how long a run may take in all,
 * both in ms; width is how many sessions there are at a time. Returns, for each
 * lesson, { slug, steps, questions, languages, references, nearMisses, answers,
 * completed, faults }, where the middle ones are { passed, of }, and the faults of
 * the course as a whole.
 */
export async function check(gateway, course, { only, patience = 10_000, limit = 30_000, width = 6 } = {}) {
  const picked = (slug) => !only?.length || only.includes(slug);
  const lessons = (await allLessons(gateway)).filter(({ slug }) => picked(slug));
  const faults = [];
  for (const slug of course.slugs().filter(picked)) {
    if (!lessons.some((lesson) => lesson.slug === slug))
      faults.push(`${slug} is on disk, but not in the gateway: build it`);
  }
  for (const slug of only ?? []) {
    if (!lessons.some((lesson) => lesson.slug === slug)) faults.push(`${slug}: the gateway has no such lesson`);
  }
  const examined = await Promise.all(lessons.map((lesson) => examine(lesson, course)));
  const tasks = examined.flatMap((one) => tasksOf(one, { gateway, patience, limit }));
  await inParallel(tasks, width);
  return { lessons: examined.map(({ report }) => report), faults };
}

async function allLessons(gateway) {
  const all = [];
  for (let after = null; ;) {
    const { nodes, next } = (await gateway.gql(lessonsQuery, { after })).lessons;
    all.push(...nodes);
    if (next === null) return all;
    after = next;
  }
}

async function inParallel(tasks, width) {
  const waiting = tasks.values();
  const work = async () => {
    for (const task of waiting) await task();
  };
  await Promise.all(Array.from({ length: width }, work));
}

// examine finds what is wrong before anything is played.
async function examine(lesson, course) {
  const written = course.lesson(lesson.slug);
  const report = {
    slug: lesson.slug,
    steps: lesson.steps.length,
    questions: lesson.questions.length,
    languages: Object.keys(locales).filter((language) => lesson[`${language}Html`].trim() !== ""),
    references: { passed: 0, of: 0 },
    nearMisses: { passed: 0, of: 0 },
    answers: { passed: 0, of: 0 },
    completed: false,
    faults: [...textFaults(lesson), ...questionFaults(lesson, written)],
  };
  let runs = [];
  try {
    runs = await course.runs(lesson.slug);
    report.faults.push(...clientFaults(lesson, runs));
  } catch (error) {
    report.faults.push(`the client cannot be loaded: ${error.message}`);
  }
  return { lesson, written, runs: runs ?? [], report };
}

// textFaults are the texts that are missing in a language.
function* textFaults(lesson) {
  const missing = function* (what, of, name = "") {
    for (const language of Object.keys(locales)) {
      const text = of[language + name];
      if (text.length === 0 || [text].flat().some((one) => one.trim() === ""))
        yield `${what} is missing in ${language}`;
    }
  };
  yield* missing("the title", lesson, "Title");
  yield* missing("the text", lesson, "Html");
  yield* missing("an objective", lesson, "Objectives");
  if (lesson.jaHtml.trim() !== "" && !/[\p{sc=Hiragana}\p{sc=Katakana}]/u.test(lesson.jaHtml))
    yield "the text in ja is not Japanese";
  for (const step of lesson.steps) {
    yield* missing(`${step.id}: the title`, step);
    yield* missing(`${step.id}: a hint`, step, "Hints");
  }
  for (const question of lesson.questions) {
    yield* missing(`${question.id}: the prompt`, question);
    for (const choice of question.choices) yield* missing(`${question.id}: choice ${choice.id}`, choice);
    if ((question.enUnit === "") !== (question.jaUnit === ""))
      yield `${question.id}: the unit is missing in a language`;
  }
}

// questionFaults are the differences between the quiz on disk and the gateway's.
function* questionFaults(lesson, written) {
  if (lesson.steps.length === 0) yield "there are no steps";
  if (lesson.questions.length === 0) yield "there are no questions";
  const ids = (list) => list.map(({ id }) => id).join(", ");
  if (ids(lesson.questions) !== ids(written.quiz))
    yield `the gateway has the questions ${ids(lesson.questions)}, lesson.json has ${ids(written.quiz)}`;
  if (ids(lesson.steps) !== ids(written.steps))
    yield `the gateway has the steps ${ids(lesson.steps)}, lesson.json has ${ids(written.steps)}`;
}

// clientFaults are what a client lacks.
function* clientFaults(lesson, runs) {
  if (runs === undefined) return yield `there is no client clients/lessons/${lesson.slug}.mjs`;
  const known = new Set(lesson.steps.map(({ id }) => id));
  const names = new Set();
  for (const { name, ticks = [], also = [], misses } of runs) {
    if (names.has(name)) yield `${name}: there are two runs of that name`;
    names.add(name);
    if (ticks.length === 0 && !misses) yield `${name}: it says neither what it ticks nor what it misses`;
    for (const step of [...ticks, ...also, ...(misses ? [misses.step] : [])])
      if (!known.has(step)) yield `${name}: the lesson has no step ${step}`;
  }
  for (const { id } of lesson.steps) {
    if (!runs.some(({ ticks }) => ticks?.includes(id))) yield `${id}: no run ticks it`;
    if (!runs.some(({ misses }) => misses?.step === id)) yield `${id}: no run nearly does it`;
  }
}

// tasksOf are what there is to do for a lesson; each needs a session of its own.
function tasksOf({ lesson, written, runs, report }, how) {
  const task = (name, count, work) => {
    if (count) count.of++;
    return async () => {
      try {
        await work();
        if (count) count.passed++;
      } catch (error) {
        report.faults.push(`${name}: ${error.message}`);
      }
    };
  };
  const tasks = runs.map((run) =>
    task(run.name, run.misses ? report.nearMisses : report.references, () =>
      withSession(how, lesson, (session) => playAlone(session, run)),
    ),
  );
  tasks.push(
    task("the quiz", undefined, () => withSession(how, lesson, (session) => takeQuiz(session, written, report))),
  );
  const reachable = lesson.steps.every(({ id }) => runs.some(({ ticks }) => ticks?.includes(id)));
  if (reachable && written.quiz.length > 0)
    tasks.push(
      task("the whole lesson", undefined, async () => {
        await withSession(how, lesson, (session) => takeLesson(session, written, runs));
        report.completed = true;
      }),
    );
  return tasks;
}

// withSession starts a session and watches it.
async function withSession({ gateway, patience, limit }, lesson, work) {
  const give = new AbortController(); // a session that is over waits for nothing
  const lab = await startLab(gateway, lesson.slug, give.signal);
  let feed;
  try {
    feed = await gateway.subscribe(eventsQuery, { session: lab.id });
    await work({ gateway, lesson, lab, feed, patience, limit });
    const twice = tickedIn(feed.events).find((step, i, all) => all.indexOf(step) !== i);
    if (twice) throw new Error(`${twice} was told as ticked twice`);
  } finally {
    give.abort(new Error("the session is over"));
    await lab.forget();
    feed?.close();
  }
}

// played waits until a run is over.
async function played({ lab, limit }, run) {
  let clock;
  const late = new Promise((_, failed) => {
    clock = setTimeout(() => failed(new Error(`it took longer than ${limit / 1000} s`)), limit);
  });
  try {
    await Promise.race([run.play(lab), late]);
  } finally {
    clearTimeout(clock);
  }
}

// told waits for something in the feed and says, if it does not come, what did.
async function told({ feed, patience }, pick, otherwise) {
  const late = new AbortController();
  const clock = setTimeout(() => late.abort(new Error(otherwise())), patience);
  try {
    return await feed.until(pick, late.signal);
  } finally {
    clearTimeout(clock);
  }
}

const tickedIn = (events) => events.filter(({ __typename }) => __typename === "StepTicked").map(({ step }) => step.id);

const answersIn = (events) => events.filter(({ __typename }) => __typename === "QuestionAnswered");

async function submit({ gateway, lab }, question, reply) {
  const input = { session: lab.id, question, ...reply };
  return (await gateway.gql(answerMutation, { input })).submitAnswer;
}

// settled returns the states of the steps once all that has happened on the wire
// so far is graded. The classroom looks at the wire before it tells of an answer
// that was given after an earlier one was told.
async function settled(session) {
  for (let i = 0; i < 2; i++) {
    const before = answersIn(session.feed.events).length;
    await submit(session, session.lesson.questions[0].id, noReply);
    await told(
      session,
      (events) => answersIn(events).length > before,
      () => "the answer to a question was not told",
    );
  }
  const { steps } = (await session.gateway.gql(statesQuery, { id: session.lab.id })).labSession;
  return steps;
}

const list = (steps) => steps.join(", ") || "none";

// ticksTold waits until steps are told as ticked.
async function ticksTold(session, steps) {
  const missing = (events) => steps.filter((step) => !tickedIn(events).includes(step));
  const nearest = () => {
    const last = session.feed.events.findLast(
      ({ __typename, step }) => __typename === "NearMiss" && missing(session.feed.events).includes(step.id),
    );
    return last ? `; nearest came: ${last.en}` : "";
  };
  await told(
    session,
    (events) => missing(events).length === 0,
    () => `not ticked: ${list(missing(session.feed.events))}${nearest()}`,
  );
  for (const { __typename, step, en, ja } of session.feed.events)
    if (__typename === "StepTicked" && (!en || !ja))
      throw new Error(`the tick of ${step.id} does not say why in both languages`);
}

// playAlone plays a run in a session that is its own.
async function playAlone(session, run) {
  await played(session, run);
  const { ticks = [], also = [], misses } = run;
  await ticksTold(session, ticks);
  if (misses) await missTold(session, misses);
  const ticked = (await settled(session)).filter((state) => state.ticked).map(({ step }) => step);
  if (misses && ticked.includes(misses.step))
    throw new Error(`${misses.step} was ticked, but should only nearly be done`);
  const surplus = ticked.filter((step) => !ticks.includes(step) && !also.includes(step));
  if (!misses && surplus.length > 0) throw new Error(`ticked, too, which the run does not say: ${list(surplus)}`);
  await ticksTold(session, ticked);
}

// missTold waits for a near miss with its sentence, in every language. A sentence
// that has the session's own values in it is a function of the lab.
async function missTold(session, { step, ...sentences }) {
  const wanted = Object.keys(locales).map((language) => {
    const sentence = sentences[language];
    if (!sentence) throw new Error(`the near miss of ${step} has no sentence in ${language}`);
    return [language, typeof sentence === "function" ? sentence(session.lab) : sentence];
  });
  const near = ({ __typename, step: { id } = {} }) => __typename === "NearMiss" && id === step;
  const said = () => {
    const came = session.feed.events.filter(near);
    const lines = wanted.flatMap(([language, sentence]) => [
      `  wanted in ${language}: ${sentence}`,
      ...came.map((event) => `  told in ${language}:   ${event[language]}`),
    ]);
    return `${step}: no near miss with this sentence:\n${lines.join("\n")}`;
  };
  await told(
    session,
    (events) =>
      events.some((event) => near(event) && wanted.every(([language, sentence]) => event[language] === sentence)),
    said,
  );
}

// takeQuiz gives every answer that is worth giving.
async function takeQuiz(session, { quiz }, report) {
  const given = [];
  for (const question of quiz) {
    for (const answer of answersTo(question)) {
      report.answers.of++;
      const fault = faultOf(answer, await submit(session, question.id, answer.reply));
      if (fault) report.faults.push(`${question.id}, ${answer.what}: ${fault}`);
      else report.answers.passed++;
      given.push(`${question.id} ${answer.right}`);
    }
  }
  await told(
    session,
    (events) => answersIn(events).length === given.length,
    () => `of ${given.length} answers, ${answersIn(session.feed.events).length} were told`,
  );
  const heard = answersIn(session.feed.events).map(({ question, right }) => `${question.id} ${right}`);
  const differs = given.findIndex((answer, i) => answer !== heard[i]);
  if (differs >= 0) throw new Error(`answer ${differs + 1} was told as ${heard[differs]}, and was ${given[differs]}`);
}

// faultOf says what is wrong with what the gateway said to an answer.
function faultOf({ right, why, of, place }, said) {
  if (said.right !== right) return right ? "it is said to be wrong" : "it is said to be right";
  const same = (a, b) => Object.keys(locales).every((language) => b[language] && a[language] === b[language]);
  if (why && !same(said, why)) return `it is not told why in both languages: ${JSON.stringify(said)}`;
  const reason = of && said.reasons.find(({ choice }) => choice === of.choice);
  if (of && !(reason && same(reason, of))) return `it is not told why in both languages: ${JSON.stringify(said)}`;
  if (place !== undefined && said.place !== place)
    return `the first wrong place is said to be ${said.place}, and is ${place}`;
}

const completions = (events) => events.filter(({ __typename }) => __typename === "LessonCompleted").length;

// takeLesson does all steps in one session, and then answers all questions.
async function takeLesson(session, { quiz }, runs) {
  const open = new Set(session.lesson.steps.map(({ id }) => id));
  const brings = ({ ticks = [] }) => ticks.filter((step) => open.has(step)).length;
  while (open.size > 0) {
    const run = runs.reduce((best, next) => (brings(next) > brings(best) ? next : best));
    try {
      await played(session, run);
      await ticksTold(session, run.ticks);
    } catch (error) {
      throw new Error(`${run.name}: ${error.message}`);
    }
    session.lab.hangUp();
    for (const step of run.ticks) open.delete(step);
  }
  await settled(session);
  const [last, ...others] = quiz;
  for (const question of others) await submit(session, question.id, rightReply(question));
  if (completions(session.feed.events) > 0) throw new Error("LessonCompleted was told before all was done");
  await submit(session, last.id, rightReply(last));
  await told(
    session,
    (events) => completions(events) > 0,
    () => "LessonCompleted was not told",
  );
  await settled(session);
  if (completions(session.feed.events) > 1) throw new Error("LessonCompleted was told twice");
}
