/** Milliseconds in each of Go's units. */
const unitMs: Readonly<Record<string, number>> = { ns: 1e-6, us: 1e-3, µs: 1e-3, μs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** The longest duration that protobuf's message can hold, 10000 years. */
const maxMs = 315_576_000_000 * 1000;

/** Parses `1.5s`, `300ms`, `-1h30m`, `0`: proto JSON's notation and Go's, of which the first is a part. Undefined when it is neither. */
export function parseDurationMs(text: string): number | undefined {
  if (text === "0") return 0;
  if (text.length > 64) return undefined;
  const match = /^([+-]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|\u00b5s|\u03bcs|ms|s|m|h))+)$/.exec(text);
  if (!match) return undefined;
  let totalMs = 0;
  for (const [, amount, unit] of (match[2] as string).matchAll(/(\d+\.?\d*|\.\d+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)/g)) {
    totalMs += Number(amount) * (unitMs[unit as string] as number);
  }
  // Nanoseconds are the finest that a duration holds; rounding to them hides the noise of binary fractions.
  totalMs = Math.round(totalMs * 1e6) / 1e6;
  if (totalMs > maxMs) return undefined;
  return match[1] === "-" ? -totalMs : totalMs;
}

/** Proto JSON's notation: `1.5s`. */
export function formatDuration(ms: number): string {
  const seconds = ms / 1000;
  return `${Number.isInteger(seconds) ? seconds : Number(seconds.toFixed(9))}s`;
}
