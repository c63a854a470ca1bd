/** How systemd's journal is told that a line matters: a number in front of it, where stderr is the journal. Source: sd-daemon(3), systemd.exec(5). */
import { fstatSync } from "node:fs";

const priorities = { debug: 7, info: 6, warn: 4, error: 3, none: 3 } as const;

const isJournal = isOwnStderr(process.env.JOURNAL_STREAM);

/** What a line of this level begins with. */
export function journalPrefix(level: keyof typeof priorities): string {
  return isJournal ? `<${priorities[level]}>` : "";
}

/** `stream`: `DEVICE:INODE`; a child whose stderr is another has inherited the variable as well. */
function isOwnStderr(stream: string | undefined): boolean {
  if (stream === undefined) return false;
  try {
    const { dev, ino } = fstatSync(2);
    return stream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}
