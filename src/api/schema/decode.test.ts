import { describe, expect, it } from "vitest";
import { decode } from "./decode.ts";
import { FieldReport, formatPath } from "./field-report.ts";
import {
  bool,
  bytes,
  double,
  duration,
  enumeration,
  int32,
  intOrString,
  list,
  map,
  mapByNumber,
  message,
  numberedEnumeration,
  optional,
  record,
  type Schema,
  string,
  struct,
  uint32,
  uint64,
} from "./schema.ts";

function decoded<T>(schema: Schema<T>, value: unknown): { value: T; problems: string[] } {
  const report = new FieldReport();
  const result = decode(schema, value, report);
  return { value: result, problems: report.problems.map((problem) => `${formatPath(problem.path)}: ${problem.message}`) };
}

const leaf = message("Leaf", { name: string(), weight: int32() });
const everything = message(
  "Everything",
  {
    text: string(),
    flag: bool(),
    count: int32(),
    size: uint64(),
    ratio: double(),
    raw: bytes(),
    after: duration(),
    mode: enumeration("UNSET", "ON", "OFF"),
    sparse: numberedEnumeration({ NONE: 0, FAR: 1000 }),
    tags: list(string()),
    leaves: list(leaf),
    labels: map(string()),
    byPort: mapByNumber(leaf),
    limit: optional(uint32()),
    leaf,
    exact: optional(string()),
    prefix: optional(string()),
    free: struct(),
    port: intOrString(),
  },
  { oneofs: [["exact", "prefix"]] },
);

describe("decode", () => {
  it("gives everything that isn't written its default, and leaves out what may be absent", () => {
    expect(decoded(everything, {})).toEqual({
      value: {
        text: "",
        flag: false,
        count: 0,
        size: 0,
        ratio: 0,
        raw: new Uint8Array(0),
        mode: "UNSET",
        sparse: "NONE",
        tags: [],
        leaves: [],
        labels: {},
        byPort: {},
      },
      problems: [],
    });
  });

  it("gives each object lists and maps of its own", () => {
    const [a, b] = [decoded(everything, {}).value, decoded(everything, {}).value];
    a.tags.push("x");
    a.labels.x = "y";
    expect(b.tags).toEqual([]);
    expect(b.labels).toEqual({});
  });

  it("decodes every type", () => {
    const { value, problems } = decoded(everything, {
      text: "t",
      flag: true,
      count: -3,
      size: "9007199254740991",
      ratio: "1.5e3",
      raw: "aGk=",
      after: "1.5s",
      mode: 2,
      sparse: "FAR",
      tags: ["a"],
      leaves: [{ name: "l" }, null],
      labels: { a: "b" },
      byPort: { 8080: { weight: "7" } },
      limit: 0,
      leaf: {},
      exact: "",
      free: { anything: [1, { goes: null }] },
      port: "http",
    });
    expect(problems).toEqual([]);
    expect(value).toEqual({
      text: "t",
      flag: true,
      count: -3,
      size: 9007199254740991,
      ratio: 1500,
      raw: new Uint8Array([104, 105]),
      after: 1500,
      mode: "OFF",
      sparse: "FAR",
      tags: ["a"],
      leaves: [
        { name: "l", weight: 0 },
        { name: "", weight: 0 },
      ],
      labels: { a: "b" },
      byPort: { 8080: { name: "", weight: 7 } },
      limit: 0,
      leaf: { name: "", weight: 0 },
      exact: "",
      free: { anything: [1, { goes: null }] },
      port: "http",
    });
  });

  it("takes null for absence", () => {
    expect(decoded(everything, { text: null, leaf: null, tags: null, limit: null }).problems).toEqual([]);
  });

  it("takes names in snake_case, but not both notations at once", () => {
    expect(decoded(everything, { by_port: {} }).problems).toEqual([]);
    expect(decoded(everything, { byPort: {}, by_port: {} }).problems).toEqual(['by_port: is given twice, as "byPort" and as "by_port"']);
  });

  it("tells all problems at once, each with its path", () => {
    expect(
      decoded(everything, {
        text: 1,
        flag: "true",
        count: 1.5,
        size: -1,
        ratio: "much",
        raw: "?",
        after: 5,
        mode: "on",
        tags: [1, null],
        leaves: [{ nam: "x" }, "leaf"],
        labels: { "a b": 1 },
        byPort: { http: {} },
        limit: 2 ** 32,
        exact: "a",
        prefix: "b",
        free: [],
      }).problems,
    ).toEqual([
      "text: must be a string, not the number 1",
      'flag: must be true or false, not the string "true"',
      "count: must be a whole number, not the number 1.5",
      "size: -1 is out of range: must be between 0 and 9007199254740991",
      'ratio: must be a number, not the string "much"',
      "raw: is not base64",
      'after: must be a duration such as "1.5s", not the number 5',
      'mode: "on" is not one of UNSET, ON, OFF',
      "tags[0]: must be a string, not the number 1",
      "tags[1]: must be a value, not empty",
      'leaves[0].nam: unknown field "nam" in Leaf (is "name" meant?)',
      'leaves[1]: must be an object, not the string "leaf"',
      'labels["a b"]: must be a string, not the number 1',
      'byPort.http: key "http" is not a number',
      "limit: 4294967296 is out of range: must be between 0 and 4294967295",
      "free: must be an object, not a list",
      ": only one of exact, prefix may be given",
    ]);
  });

  it("takes __proto__ for a key like any other", () => {
    const { value, problems } = decoded(map(string()), JSON.parse('{"__proto__": "x"}'));
    expect(problems).toEqual([]);
    expect(Object.getOwnPropertyNames(value)).toEqual(["__proto__"]);
    expect(decoded(leaf, JSON.parse('{"__proto__": {"name": "x"}}')).problems).toHaveLength(1);
  });

  it("passes over what a record doesn't declare", () => {
    expect(decoded(record("Pod", { name: string() }), { name: "x", unknown: 1, some_thing: 2 })).toEqual({
      value: { name: "x" },
      problems: [],
    });
  });
});
