/** How systemd's journal is told that a line matters: a number in front of it, where stderr is the journal. Source: sd-daemon(3), systemd.exec(5). */
import { fstatSync } from "node:fs";

const priorities = { debug: 7, info: 6, warn: 4, error: 3, none: 3 } as const;

let isJournal = false;

/** What a line of this level begins with. */
export function journalPrefix(level: keyof typeof priorities): string {
  return isJournal ? `<${priorities[level]}>` : "";
}

/** `stream`: JOURNAL_STREAM, `DEVICE:INODE`; a child whose stderr is another has inherited the variable as well. */
export function expectJournal(stream: string | undefined): void {
  if (stream === undefined) return;
  try {
    const { dev, ino } = fstatSync(2);
    isJournal = stream === `${dev}:${ino}`;
  } catch {
    // It is closed.
  }
}
