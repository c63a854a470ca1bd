/**
 * Times in access logs: Envoy's strftime dialect, compiled once per format.
 *
 * What strftime knows, plus `%s` (seconds since the epoch), `%Nf` (N digits of the fraction, `%f` nine) and Abseil's
 * `%ENS`, `%E*S`, `%Ez`. Always UTC.
 */

/** Renders a time given as milliseconds since the epoch (fractions count). */
export type TimeFormat = (epochMs: number) => string;

const days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const months = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

const pad = (value: number, width: number, fill = "0") => String(value).padStart(width, fill);

type Part = (date: Date, epochMs: number) => string;

const conversions: Record<string, Part> = {
  Y: (date) => String(date.getUTCFullYear()),
  y: (date) => pad(date.getUTCFullYear() % 100, 2),
  C: (date) => pad(Math.floor(date.getUTCFullYear() / 100), 2),
  m: (date) => pad(date.getUTCMonth() + 1, 2),
  d: (date) => pad(date.getUTCDate(), 2),
  e: (date) => pad(date.getUTCDate(), 2, " "),
  j: (date) => pad(Math.floor((date.getTime() - Date.UTC(date.getUTCFullYear(), 0)) / 86_400_000) + 1, 3),
  H: (date) => pad(date.getUTCHours(), 2),
  I: (date) => pad(date.getUTCHours() % 12 || 12, 2),
  M: (date) => pad(date.getUTCMinutes(), 2),
  S: (date) => pad(date.getUTCSeconds(), 2),
  p: (date) => (date.getUTCHours() < 12 ? "AM" : "PM"),
  a: (date) => days[date.getUTCDay()]!.slice(0, 3),
  A: (date) => days[date.getUTCDay()]!,
  b: (date) => months[date.getUTCMonth()]!.slice(0, 3),
  h: (date) => months[date.getUTCMonth()]!.slice(0, 3),
  B: (date) => months[date.getUTCMonth()]!,
  u: (date) => String(date.getUTCDay() || 7),
  w: (date) => String(date.getUTCDay()),
  s: (_date, epochMs) => String(Math.floor(epochMs / 1000)),
  z: () => "+0000",
  Z: () => "UTC",
  n: () => "\n",
  t: () => "\t",
  "%": () => "%",
};

const composites: Record<string, string> = { T: "%H:%M:%S", R: "%H:%M", F: "%Y-%m-%d", D: "%m/%d/%y", c: "%a %b %e %H:%M:%S %Y" };

export function compileTimeFormat(format: string): TimeFormat {
  if (format === "") return isoTime;
  const text = format.replaceAll(/%([TRFDc])/g, (_match, letter: string) => composites[letter]!);
  const parts: (string | Part)[] = [];
  let last = 0;
  for (const match of text.matchAll(/%(?:E(?<seconds>\d|\*)S|(?<zone>Ez)|(?<digits>\d)?f|(?<letter>[A-Za-z%]))/g)) {
    const { seconds, zone, digits, letter } = match.groups!;
    let part: Part | undefined;
    if (zone) part = () => "+00:00";
    else if (seconds) part = (date, epochMs) => pad(date.getUTCSeconds(), 2) + fractionOfSecond(epochMs, seconds);
    else if (letter) part = conversions[letter];
    else part = (_date, epochMs) => nanoseconds(epochMs).slice(0, digits === undefined ? 9 : Number(digits));
    if (!part) continue; // an unknown conversion stays as it is written
    if (match.index > last) parts.push(text.slice(last, match.index));
    parts.push(part);
    last = match.index + match[0].length;
  }
  if (last < text.length) parts.push(text.slice(last));
  return (epochMs) => {
    const date = new Date(epochMs);
    let out = "";
    for (const part of parts) out += typeof part === "string" ? part : part(date, epochMs);
    return out;
  };
}

let cachedSecond = -1;
let cachedPrefix = "";

/** `2026-11-24T15:04:05.123Z`, the default. Hot: the part down to the second is kept between calls. */
export function isoTime(epochMs: number): string {
  const whole = Math.floor(epochMs);
  const second = Math.floor(whole / 1000);
  if (second !== cachedSecond) {
    cachedSecond = second;
    cachedPrefix = new Date(second * 1000).toISOString().slice(0, 20);
  }
  const ms = whole - second * 1000;
  return `${cachedPrefix}${ms < 10 ? "00" : ms < 100 ? "0" : ""}${ms}Z`;
}

function nanoseconds(epochMs: number): string {
  const microseconds = Math.floor((epochMs % 1000) * 1000);
  return pad(microseconds * 1000, 9);
}

function fractionOfSecond(epochMs: number, digits: string): string {
  const all = nanoseconds(epochMs);
  const cut = digits === "*" ? all.replace(/0+$/, "") : all.slice(0, Number(digits));
  return cut === "" ? "" : `.${cut}`;
}
