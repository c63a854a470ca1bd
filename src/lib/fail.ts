import { journalPrefix } from "./journal.ts";

/** Ends a program's `main` with a message for whoever started it, and the way out where there is one. Returns the exit code. */
export function fail(message: string, hint?: string, exitCode = 1): number {
  process.stderr.write(`${journalPrefix("error")}error: ${message}\n${hint ? `hint: ${hint}\n` : ""}`);
  return exitCode;
}
