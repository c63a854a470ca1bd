/** What is to be said about objects of the configuration: each sentence is logged when it comes up, and kept while it holds. */
import { type ConfigObject, formatKey, keyOf } from "../api/kinds/object.ts";
import { log } from "../lib/log.ts";

const scope = log.scope("ads");

export class ObjectRemarks {
  readonly #title: string;
  #lines: ReadonlySet<string> = new Set();

  /** `title`: the log's message. */
  constructor(title: string) {
    this.#title = title;
  }

  /** `Kind/namespace/name: sentence`. */
  get lines(): readonly string[] {
    return [...this.#lines];
  }

  /** All there is to say now. What was said before is logged again only when it did not hold in between. */
  replace(objects: Iterable<ConfigObject>, sentencesOf: (object: ConfigObject) => readonly string[]): void {
    const lines = new Set<string>();
    for (const object of objects) {
      for (const sentence of sentencesOf(object)) {
        const key = formatKey(keyOf(object));
        const line = `${key}: ${sentence}`;
        if (lines.has(line)) continue;
        lines.add(line);
        if (!this.#lines.has(line)) scope.warn(this.#title, { object: key, reason: sentence });
      }
    }
    this.#lines = lines;
  }
}
