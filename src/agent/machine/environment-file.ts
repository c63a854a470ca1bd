/**
 * The files of variables that Istio reads by a shell, sidecar.env and cluster.env, without the shell: what `istioctl x workload entry
 * configure` writes and what people write by hand means the same, and what only a shell could do is refused, with its line.
 *
 *   NAME=value   export NAME="a $OTHER"   NAME='as it is'"'"'s'   # comment
 */

type Variables = Readonly<Record<string, string | undefined>>;

/** `file:line: message`. */
export class EnvironmentFileError extends Error {
  override readonly name = "EnvironmentFileError";
}

/** What a shell reads as more than text, outside of quotes. */
const active = new Set(["`", ";", "&", "|", "<", ">", "(", ")", "*", "?", "[", "{", "}", "~"]);
/** Taken as text all the same: a shell would do so in an assignment. */
const plainInAssignment = new Set(["*", "?", "[", "{", "}"]);

/** Later assignments win, and may refer to earlier ones and to `known`. */
export function parseEnvironmentFile(text: string, file: string, known: Variables = {}): Record<string, string> {
  const found: Record<string, string> = {};
  const reader = new Reader(text, file, (name) => found[name] ?? known[name] ?? "");
  for (;;) {
    reader.skipBlank();
    if (reader.isAtEnd) return found;
    const names = reader.takeName();
    if (names.isBareExport) continue;
    found[names.name] = reader.takeValue();
  }
}

class Reader {
  readonly #text: string;
  readonly #file: string;
  readonly #lookUp: (name: string) => string;
  #at = 0;

  constructor(text: string, file: string, lookUp: (name: string) => string) {
    this.#text = text;
    this.#file = file;
    this.#lookUp = lookUp;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#text.length;
  }

  /** Over white space, empty lines and comments. */
  skipBlank(): void {
    this.#take(/(?:\s|#[^\n]*)*/y);
  }

  takeName(): { readonly name: string; readonly isBareExport: boolean } {
    const exported = this.#take(/export[ \t]+/y) !== "";
    const name = this.#take(/[A-Za-z_][A-Za-z0-9_]*/y);
    if (name !== "" && this.#take(/=/y)) return { name, isBareExport: false };
    // Everything is exported anyway.
    if (exported && name !== "" && this.#take(/(?=[ \t]*(?:\n|$))/y) === "" && /^[ \t]*(?:\n|$)/.test(this.#text.slice(this.#at)))
      return { name, isBareExport: true };
    throw this.#error("is no assignment NAME=value; this file is not run by a shell");
  }

  takeValue(): string {
    let value = "";
    for (;;) {
      value += this.#take(/[^\s'"\\$`;&|<>()*?[\]{}~]+/y);
      const next = this.#text[this.#at];
      if (next === undefined || /\s/.test(next)) return this.#endOfValue(value);
      if (next === "'") value += this.#takeSingleQuoted();
      else if (next === '"') value += this.#takeDoubleQuoted();
      else if (next === "$") value += this.#takeReference();
      else if (next === "\\")
        value += this.#take(/\\[\s\S]/y)
          .slice(1)
          .replace("\n", "");
      else if (active.has(next) && !plainInAssignment.has(next) && !(next === "~" && value !== ""))
        throw this.#error(`"${next}" is for a shell, and none reads this file; quote it if it is meant`);
      else value += this.#take(/[\s\S]/y);
    }
  }

  /** Behind a value comes the end of its line, a comment, or another assignment: not a command, which a shell would run. */
  #endOfValue(value: string): string {
    // Lines may end as Windows has them.
    this.#take(/[ \t\r]+/y);
    const rest = /^[^\n]*/.exec(this.#text.slice(this.#at))![0];
    if (rest !== "" && !rest.startsWith("#") && !/^(?:export[ \t]+)?[A-Za-z_][A-Za-z0-9_]*=/.test(rest))
      throw this.#error(`"${rest.split(/\s/, 1)[0]}" stands behind a value that has ended: a value with spaces needs quotes`);
    return value;
  }

  #takeSingleQuoted(): string {
    const quoted = this.#take(/'[^']*'/y);
    if (quoted === "") throw this.#error("a quote ' is not closed");
    return quoted.slice(1, -1);
  }

  #takeDoubleQuoted(): string {
    const start = this.#at;
    this.#at++;
    let value = "";
    for (;;) {
      value += this.#take(/[^"\\$`]+/y);
      const next = this.#text[this.#at];
      if (next === '"') {
        this.#at++;
        return value;
      }
      if (next === "$") value += this.#takeReference();
      else if (next === "\\") value += this.#take(/\\[\s\S]/y).replace(/^\\(?:([$`"\\])|\n)/, "$1");
      else if (next === "`") throw this.#error("a command in ` ` is for a shell, and none reads this file");
      else {
        this.#at = start;
        throw this.#error('a quote " is not closed');
      }
    }
  }

  #takeReference(): string {
    const reference = this.#take(/\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\})/y);
    if (reference !== "") return this.#lookUp(reference.replace(/[${}]/g, ""));
    if (/^\$[\s"']/.test(this.#text.slice(this.#at, this.#at + 2)) || this.#at === this.#text.length - 1) return this.#take(/\$/y);
    throw this.#error("what begins with $ is for a shell, and none reads this file; a name may follow it");
  }

  #take(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const taken = pattern.exec(this.#text)?.[0] ?? "";
    this.#at += taken.length;
    return taken;
  }

  #error(reason: string): EnvironmentFileError {
    const line = this.#text.slice(0, this.#at).split("\n").length;
    return new EnvironmentFileError(`${this.#file}:${line}: ${reason}`);
  }
}
