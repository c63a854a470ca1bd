/**
 * `text` with a word for a port that is another one each time: not for the same digits within a longer number, a hash or an id, where they
 * come up once in some thousand runs.
 */
export function maskPort(text: string, port: number | string, word: string): string {
  return text.replaceAll(new RegExp(`(?:(?<=%3A)|(?<![0-9A-Za-z]))${port}(?![0-9A-Za-z])`, "g"), word);
}
