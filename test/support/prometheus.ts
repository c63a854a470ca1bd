/** Lines of a Prometheus page as values. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Of one name, with at least these labels. */
export function samplesOf(page: string, name: string, wanted: Readonly<Record<string, string>> = {}): Sample[] {
  return page.split("\n").flatMap((line) => {
    const match = /^(\w+)\{(.*)\} (\S+)$/.exec(line);
    if (match?.[1] !== name) return [];
    const labels = Object.fromEntries([...match[2]!.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, label, value]) => [label!, value!]));
    return Object.entries(wanted).every(([label, value]) => labels[label] === value) ? [{ name, labels, value: Number(match[3]) }] : [];
  });
}
