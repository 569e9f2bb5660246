// What the course's authors wrote, from disk: lessons with their right answers,
// and reference clients.
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/** The course of a folder of lessons and a folder of clients. */
export function courseOf({ content = here("../../../lessons/content"), clients = here("..") } = {}) {
  const lessonFile = (slug) => join(content, slug, "lesson.json");
  const clientFile = (slug) => resolve(clients, `${slug}.mjs`);
  return {
    /** The slugs of the lessons that are written. */
    slugs: () => readdirSync(content).filter((name) => existsSync(lessonFile(name))),
    /** A lesson as lesson.json has it. */
    lesson: (slug) => JSON.parse(readFileSync(lessonFile(slug), "utf8")),
    /** The runs of a lesson's client; undefined: it has none. */
    async runs(slug) {
      if (!existsSync(clientFile(slug))) return undefined;
      return (await import(pathToFileURL(clientFile(slug)))).runs;
    },
  };
}
