import { describe, expect, it } from "vitest";
import { decodeDocuments } from "./decode-documents.ts";
import { splitDocuments } from "./split-documents.ts";

const entry = (name: string, spec = "{ hosts: [a.com] }") =>
  `apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: ${name}\nspec: ${spec}\n`;

function read(text: string, options = {}) {
  const { objects, errors, ...rest } = decodeDocuments(text, "f.yaml", options);
  return { names: objects.map((object) => object.metadata.name), errors: errors.map((error) => error.describe()), objects, ...rest };
}

describe("splitDocuments", () => {
  it("cuts at markers and leaves out what has no content", () => {
    const text = "%YAML 1.2\n---\n# nothing\n---\na: |\n  text\n  --- not one\n...\n---  b: 1\n---x: 1\n--- # end\n";
    expect(splitDocuments(text)).toEqual([
      { text: "\na: |\n  text\n  --- not one\n", firstLine: 4 },
      { text: "  b: 1\n---x: 1\n", firstLine: 9 },
    ]);
  });

  it("takes lines that end in CR LF", () => {
    expect(splitDocuments("a: 1\r\n---\r\nb: 1\r\n").map((document) => document.firstLine)).toEqual([1, 2]);
  });
});

describe("decodeDocuments", () => {
  it("reads several documents and says where they stand", () => {
    const { objects, errors } = read(`# head\n---\n${entry("a")}---\n${entry("b")}`);
    expect(errors).toEqual([]);
    expect(objects.map((object) => [object.metadata.name, object.metadata.namespace, object.position?.line])).toEqual([
      ["a", "default", 3],
      ["b", "default", 9],
    ]);
  });

  it("reads JSON with its lines", () => {
    const text = JSON.stringify(
      { apiVersion: "networking.istio.io/v1", kind: "ServiceEntry", metadata: { name: "a" }, spec: { host: [] } },
      null,
      1,
    );
    expect(read(text).errors).toEqual([
      'f.yaml:8: ServiceEntry default/a: spec.host: unknown field "host" in ServiceEntry (is "hosts" meant?)',
    ]);
  });

  it("takes lists apart, typed and untyped", () => {
    const list = `apiVersion: v1\nkind: List\nitems:\n- ${entry("a").replaceAll("\n", "\n  ")}\n- { apiVersion: v1, kind: Pod, metadata: { name: 5 } }\n`;
    expect(read(list)).toMatchObject({
      names: ["a"],
      errors: [
        "f.yaml:10: Pod default: metadata.name: must be a string, not the number 5",
        "f.yaml:10: Pod default: metadata.name: is missing",
      ],
    });
    expect(read("apiVersion: networking.istio.io/v1\nkind: GatewayList\nitems: [{ metadata: { name: g } }]").names).toEqual(["g"]);
  });

  it("doesn't let a broken document hide the others", () => {
    const { names, errors, hasUnidentified } = read(`${entry("a")}---\n{ kind: [\n---\n\t: x\n---\n${entry("b")}`);
    expect(names).toEqual(["a", "b"]);
    expect(errors.length).toBeGreaterThanOrEqual(2);
    expect(hasUnidentified).toBe(true);
  });

  it("names the object of a text that can't be parsed, where it shows", () => {
    expect(read(`${entry("a")}  broken: [\n`).errors[0]).toMatch(/^f\.yaml:\d+: ServiceEntry a: is not YAML: /);
  });

  it("says which objects are broken", () => {
    const { brokenKeys, hasUnidentified } = read(entry("a", "{ nonsense: 1 }"));
    expect(brokenKeys).toEqual([{ kind: "ServiceEntry", namespace: "default", name: "a" }]);
    expect(hasUnidentified).toBe(false);
  });

  it("refuses duplicate keys, with the line of the second", () => {
    expect(read(`${entry("a")}spec: {}\n`).errors).toEqual(['f.yaml:6: ServiceEntry a: key "spec" is given twice']);
  });

  it("takes the booleans of Kubernetes' YAML, and merges", () => {
    const { objects } = read(
      "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: { name: a }\nspec:\n  servers:\n  - &first { port: { number: 80, name: http, protocol: HTTP }, hosts: [a.com], tls: { httpsRedirect: yes } }\n  - { <<: *first, name: second }\n",
    );
    expect(objects[0]?.spec).toMatchObject({ servers: [{ tls: { httpsRedirect: true } }, { name: "second", hosts: ["a.com"] }] });
  });

  it("keeps the namespace, or gives the default one", () => {
    const text = entry("a").replace("name: a", "name: a\n  namespace: prod");
    expect(read(text).objects[0]?.metadata.namespace).toBe("prod");
    expect(read(entry("a"), { defaultNamespace: "mine" }).objects[0]?.metadata.namespace).toBe("mine");
    expect(read("apiVersion: v1\nkind: Namespace\nmetadata: { name: x, namespace: y }").objects[0]?.metadata.namespace).toBe("");
  });

  it("refuses what isn't an object, has no kind, version or name, or a field of its own", () => {
    expect(read("just text").errors[0]).toContain("is not an object");
    expect(read("kind: Gateway").errors[0]).toContain("apiVersion: is missing");
    expect(read("apiVersion: v1").errors[0]).toContain("kind: is missing");
    expect(read("apiVersion: networking.istio.io/v1\nkind: Gateway").errors[0]).toContain("metadata.name: is missing");
    expect(read("apiVersion: networking.istio.io/v7\nkind: Gateway\nmetadata: { name: a }").errors[0]).toContain(
      'version "v7" of Gateway is not served: use v1, v1beta1, v1alpha3',
    );
    expect(read(`${entry("a")}spce: {}`).errors[0]).toContain("spce: unknown field");
    expect(read("apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: { name: a, lables: {} }").errors[0]).toContain(
      'unknown field "lables" in ObjectMeta (is "labels" meant?)',
    );
  });

  it("refuses kinds that it doesn't know, or passes them", () => {
    const text = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: { name: a }";
    expect(read(text).errors[0]).toBe(
      'f.yaml:1: Gateway default/a: kind: unknown kind "Gateway" in apiVersion "gateway.networking.k8s.io/v1" (its apiVersion is networking.istio.io/v1)',
    );
    expect(read(text, { unknownKinds: "pass" })).toMatchObject({ errors: [], foreign: [{ kind: "Gateway", name: "a" }] });
  });

  it("reads a Secret's data and stringData", () => {
    const { objects } = read(
      'apiVersion: v1\nkind: Secret\nmetadata: { name: s }\ndata: { a: aGk=, b: "" }\nstringData: { b: text }\ntype: Opaque',
    );
    expect(objects[0]?.spec).toEqual({ type: "Opaque", data: { a: new Uint8Array([104, 105]), b: new TextEncoder().encode("text") } });
  });

  it("takes null for an empty value of a Secret or a ConfigMap, as Go writes it", () => {
    const { objects, errors } = read(
      [
        "apiVersion: v1\nkind: Secret\nmetadata: { name: s }\ndata: { a: null, b: aGk= }\nstringData: { c: null }",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: c }\ndata: { a: null, b: text }\nbinaryData: { c: null }",
      ].join("\n---\n"),
    );
    const nothing = new Uint8Array(0);
    expect(errors).toEqual([]);
    expect(objects[0]?.spec).toEqual({ type: "", data: { a: nothing, b: new Uint8Array([104, 105]), c: nothing } });
    expect(objects[1]?.spec).toEqual({ data: { a: "", b: "text" }, binaryData: { c: nothing } });
  });

  it("reads a Pod's address from its status", () => {
    const { objects } = read(
      "apiVersion: v1\nkind: Pod\nmetadata: { name: p }\nspec: { serviceAccountName: sa, unknown: 1 }\nstatus: { podIP: 10.0.0.1, phase: Running }",
    );
    expect(objects[0]?.spec).toMatchObject({ serviceAccountName: "sa", podIP: "10.0.0.1", phase: "Running" });
    expect(objects[0]?.status).toEqual({ podIP: "10.0.0.1", phase: "Running" });
  });

  describe("with garbage", () => {
    const withinMs = (limitMs: number, run: () => void) => {
      const startedMs = performance.now();
      run();
      expect(performance.now() - startedMs).toBeLessThan(limitMs);
    };

    it("bounds aliases that multiply", () => {
      const levels = Array.from(
        { length: 12 },
        (_, level) =>
          `a${level}: &a${level} [${
            level === 0
              ? "x"
              : Array(10)
                  .fill(`*a${level - 1}`)
                  .join(", ")
          }]`,
      );
      withinMs(2000, () => expect(read(levels.join("\n")).errors).toEqual(["f.yaml:1: its aliases expand to too much"]));
    });

    it("refuses a value that holds itself", () => {
      withinMs(2000, () => expect(read(`${entry("a", "&x { hosts: [a.com], endpoints: [{ labels: *x }] }")}`).errors).toHaveLength(1));
    });

    it("refuses an alias to nowhere", () => {
      expect(read("a: *b").errors[0]).toMatch(/^f\.yaml:1: /);
    });

    it.each([
      ["flow sequences", "[".repeat(50_000)],
      ["flow maps", "{a: ".repeat(50_000)],
      ["block sequences", "- ".repeat(20_000)],
      ["block maps", Array.from({ length: 2000 }, (_, depth) => `${" ".repeat(depth)}a:`).join("\n")],
      ["closed sequences", `a: ${"[".repeat(5000)}${"]".repeat(5000)}`],
    ])("survives deep %s", (_, text) => {
      withinMs(10_000, () => expect(read(text).errors.length).toBeGreaterThan(0));
    });

    it("survives random bytes and mutilated objects", () => {
      let seed = 42;
      const random = (below: number) => {
        seed = (seed * 1103515245 + 12345) % 2 ** 31;
        return seed % below;
      };
      const whole = `${entry("a")}---\n${entry("b", "{ hosts: ['*.com'], ports: [{ number: 80 }], endpoints: [{ address: 1.1.1.1 }] }")}`;
      const characters = "\t\n -:{}[]&*!|>'\"%@`#?,\\\u0001é😀";
      for (let round = 0; round < 500; round++) {
        let text = whole;
        for (let edit = 0; edit < 1 + random(5); edit++) {
          const at = random(text.length);
          text = text.slice(0, at) + characters[random(characters.length)] + text.slice(at + random(4));
        }
        for (const error of decodeDocuments(text, "f.yaml").errors) expect(error.position?.line).toBeGreaterThan(0);
      }
    });

    it("refuses documents whose tree would take all memory, at once", () => {
      withinMs(1000, () => expect(read("- a\n".repeat(1_000_000)).errors[0]).toContain("has more than 200000 lines and items"));
      withinMs(1000, () => expect(read(`a: ${"x".repeat(5_000_000)}`).errors[0]).toContain("is larger than 4 MiB"));
    });

    it("takes a map of many keys in a bearable time", () => {
      const labels = Array.from({ length: 50_000 }, (_, index) => `    k${index}: v`).join("\n");
      withinMs(5000, () => expect(read(`${entry("a").replace("name: a", `name: a\n  labels:\n${labels}`)}`).names).toEqual(["a"]));
    });

    it("takes a large file in a bearable time", () => {
      const text = Array.from({ length: 1000 }, (_, index) => entry(`s-${index}`)).join("---\n");
      withinMs(5000, () => expect(read(text).names).toHaveLength(1000));
    });
  });
});
