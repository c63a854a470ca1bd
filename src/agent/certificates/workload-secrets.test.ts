import { describe, expect, it } from "vitest";
import { makeMeshCa } from "../../../test/support/mesh-ca.ts";
import { splitCertificates } from "../../lib/pem.ts";
import type { KeyPair } from "./key-pair.ts";
import { PresentSecrets } from "./workload-secrets.ts";

const [first, second] = [makeMeshCa().root, makeMeshCa().root];

class Source extends PresentSecrets {
  changes = 0;

  constructor(issuer: "controlPlane" | "another") {
    super(issuer);
    this.onChange(() => this.changes++);
  }

  issue(roots: string): void {
    this.set({ pair: {} as KeyPair, roots });
  }

  get roots(): string[] {
    return splitCertificates(this.current!.roots);
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

describe("Whom a workload trusts", () => {
  const [a, b] = [first, second].map((root) => splitCertificates(root)[0]!) as [string, string];

  it("is what the control plane said last, with a certificate or without, when it issues them", () => {
    const source = new Source("controlPlane");
    source.issue(first);
    expect(source.trust([a, b])).toBe(true);
    expect(source.roots).toEqual([a, b]);
    source.issue(second);
    expect(source.roots).toEqual([b]);
    expect(source.changes).toBe(3);
  });

  it("is both when another issues certificates", () => {
    const source = new Source("another");
    source.issue(first);
    source.trust([b]);
    expect(source.roots).toEqual([b, a]);
    source.issue(first);
    expect(source.roots).toEqual([b, a]);
  });

  it("stays when nothing new is said, or nothing at all, and tells nobody", () => {
    const source = new Source("controlPlane");
    source.issue(first);
    expect([source.trust([a]), source.trust([])]).toEqual([false, false]);
    expect([source.roots, source.changes]).toEqual([[a], 1]);
  });

  it("stays when what is said is no certificate", () => {
    const source = new Source("controlPlane");
    source.issue(first);
    expect(() => source.trust([b, "nonsense"])).toThrow();
    expect([source.roots, source.changes]).toEqual([[a], 1]);
  });
});
