import { describe, expect, it } from "vitest";
import { LineCounter, type Node } from "yaml";
import { parseYamlDocument, resolvePlainScalar } from "./parse-yaml.ts";
import { toPlainValue } from "./plain-value.ts";
import { readPlainYaml } from "./read-plain-yaml.ts";

const read = (text: string) => readPlainYaml(text, resolvePlainScalar);

/** What the whole parser makes of it; undefined when it finds something wrong. */
function readWhole(text: string): { value: unknown; offset: number } | undefined {
  const document = parseYamlDocument(text, new LineCounter());
  if (typeof document === "string" || document.errors.length > 0) return undefined;
  return { value: toPlainValue(document), offset: (document.contents as Node | null)?.range?.[0] ?? 0 };
}

const manifests = [
  `
# a comment
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
  namespace: default
  labels: {}
  annotations:
    example.com/on: "yes"
    other: 'a "b" # c'
spec:
  hosts:
  - reviews.test
  - "*.reviews.test"
  http:
    - match:
        - uri:
            prefix: /a/b?c=d
          headers:
            end-user:
              exact: jason

      route:
      - destination:
          host: http://reviews:9080
          port:
            number: 9080
        weight: 100
      timeout: 5s
  exportTo: []
  empty:
  last: ~
`,
  `kind: Numbers
a: 1
b: -1.50
c: 0x1F
d: 0o17
e: 017
f: 1e3
g: .5
h: 1_000
i: 12:30:45
j: 2026-11-24
k: .inf
l: true
m: No
n: off
o: null
p: +7
q: 1.2.3.4
r: 10.0.0.0/8
t: -x
u: a  b
v: yes please
`,
  `a:
- b: 1
  c:
  - d
  - e: 2
- f:
  g: 3
-   h: 4
    i: 5
j: k
`,
];

/** The same numbers at each run. */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const pieces = [
  ..." \n:-#'\"[]{}&*!|>?,%@`~.0aAn\t\\=<",
  ": ",
  "- ",
  "\n  ",
  "\n- ",
  " #",
  "on",
  "null",
  "1",
  "key: value\n",
  "--- ",
  "<<: x\n",
  "\r\n",
];

function mutate(text: string, random: (below: number) => number): string {
  let mutated = text;
  for (let change = 0; change <= random(3); change++) {
    const at = random(mutated.length + 1);
    const piece = pieces[random(pieces.length)]!;
    const lines = mutated.split("\n");
    const line = random(lines.length);
    switch (random(6)) {
      case 0:
        mutated = mutated.slice(0, at) + mutated.slice(at + 1 + random(3));
        break;
      case 1:
        mutated = mutated.slice(0, at) + piece + mutated.slice(at + 1);
        break;
      case 2:
        lines[line] = ` ${lines[line]}`;
        mutated = lines.join("\n");
        break;
      case 3:
        lines[line] = lines[line]!.replace(/^ {1,2}/, "");
        mutated = lines.join("\n");
        break;
      case 4:
        lines.splice(line, 1, lines[random(lines.length)]!);
        mutated = lines.join("\n");
        break;
      default:
        mutated = mutated.slice(0, at) + piece + mutated.slice(at);
    }
  }
  return mutated;
}

describe("readPlainYaml", () => {
  it.each(manifests.map((text, index) => [index, text] as const))("reads manifest %i as the whole parser does", (_, text) => {
    expect(read(text)).toEqual(readWhole(text));
    expect(read(text)).toBeDefined();
  });

  it("never takes what the whole parser refuses or reads otherwise", () => {
    let taken = 0;
    for (let seed = 1; seed <= 6000; seed++) {
      const text = mutate(manifests[seed % manifests.length]!, randomOf(seed * 7919));
      const plain = read(text);
      if (!plain) continue;
      taken++;
      expect({ seed, text, ...plain }).toEqual({ seed, text, ...readWhole(text) });
    }
    // A reader that takes nothing would pass as well.
    expect(taken).toBeGreaterThan(1000);
  });

  it.each([
    ["a comment behind a value", "a: b # c"],
    ["a block scalar", "a: |\n  b"],
    ["a continued line", "a: b\n  c"],
    ["a flow collection", "a: [b]"],
    ["an anchor", "a: &b c"],
    ["a tag", "a: !!str 1"],
    ["a merge", "<<: a"],
    ["an escape", 'a: "\\n"'],
    ["the same key twice", "a: 1\na: 2"],
    ["a key that is no text", "on: 1"],
    ["a tab", "a:\tb"],
    ["a sequence at the top", "- a"],
    ["content on the marker's line", " a: b"],
    ["a value alone", "a"],
    ["nothing", "# nothing\n"],
    ["what is nested deeply", Array.from({ length: 80 }, (_, depth) => `${" ".repeat(depth)}a:`).join("\n")],
    ["what is large", `a: ${"b".repeat(200_000)}`],
  ])("leaves %s to the whole parser", (_, text) => {
    expect(read(text)).toBeUndefined();
  });
});
