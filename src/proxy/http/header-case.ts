/** `header_key_format: proper_case_words`: `x-foo_bar-baz` becomes `X-Foo_Bar-Baz`. */
const known = new Map<string, string>();

export function properCase(name: string): string {
  const seen = known.get(name);
  if (seen !== undefined) return seen;
  const made = name.replace(/(^|[^a-z0-9])([a-z])/g, (_, before: string, letter: string) => before + letter.toUpperCase());
  if (known.size < 2048) known.set(name, made);
  return made;
}
