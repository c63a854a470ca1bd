/**
 * One string object for all that say the same. For names that come from outside again and again, as hundreds of clients ask for the same
 * resources: each would keep a copy of its own. Bounded; what comes after that starts anew.
 */
const maxStrings = 100_000;
const known = new Map<string, string>();

export function interned(text: string): string {
  const same = known.get(text);
  if (same !== undefined) return same;
  if (known.size >= maxStrings) known.clear();
  known.set(text, text);
  return text;
}
