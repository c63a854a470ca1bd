import { describe, expect, it } from "vitest";
import { pushContextOf, routerNode, sidecarNode } from "../../../test/support/mesh.ts";
import { makeMeshCa } from "../../../test/support/mesh-ca.ts";
import { controlPlaneSecret } from "./secrets.ts";

const ca = makeMeshCa();
const identity = ca.issueFor("DNS:a.test");
const text = (value: string) => JSON.stringify(value);
const object = (kind: string, namespace: string, name: string, data: string) =>
  `{apiVersion: v1, kind: ${kind}, metadata: {name: ${name}, namespace: ${namespace}}, ${data}}\n---\n`;
const pair = `tls.crt: ${text(identity.certificate)}, tls.key: ${text(identity.key)}`;

const push = pushContextOf(
  object("Secret", "edge", "own", `stringData: {${pair}}`) +
    object("Secret", "edge", "with-ca", `stringData: {${pair}, ca.crt: ${text(ca.root)}}`) +
    object("Secret", "edge", "beside-cacert", `stringData: {cacert: ${text(ca.root)}, crl: ${text(ca.revoke(identity))}}`) +
    object("Secret", "edge", "bad-crl-cacert", `stringData: {ca.crt: ${text(ca.root)}, ca.crl: nonsense}`) +
    object("Secret", "edge", "empty", "stringData: {}") +
    object("Secret", "other", "own", `stringData: {${pair}}`) +
    object("Secret", "istio-system", "cacerts", `stringData: {${pair}, ca.crt: ${text(ca.root)}}`) +
    `{apiVersion: v1, kind: ServiceAccount, metadata: {name: kept, namespace: edge, annotations: {kubernetes.io/enforce-mountable-secrets: "true"}}, secrets: [{name: own}]}\n---\n` +
    object("ConfigMap", "other", "roots", `data: {ca.crt: ${text(ca.root)}}`),
);

function kindOf(name: string, proxy = routerNode({ namespace: "edge" })): string {
  const result = controlPlaneSecret(name, proxy, push);
  if (!result) return "none";
  return "problem" in result ? result.problem : (result.secret.type.case ?? "");
}

describe("secrets", () => {
  it.each([
    ["kubernetes://own", "tlsCertificate"],
    ["kubernetes://edge/own", "tlsCertificate"],
    ["kubernetes://with-ca-cacert", "validationContext"],
    ["kubernetes://beside-cacert", "validationContext"],
    ["kubernetes://own-cacert", expect.stringContaining("no ca.crt")],
    ["kubernetes://bad-crl-cacert", expect.stringContaining("revocation list")],
    ["kubernetes://empty", expect.stringContaining("no tls.crt")],
    ["kubernetes://nothing", "none"],
    ["configmap://other/roots", "validationContext"],
    ["configmap://other/roots-cacert", "validationContext"],
    ["configmap://roots", "none"],
    ["invalid://", expect.stringContaining("never valid")],
    ["default", "none"],
  ])("%s is %s", (name, expected) => {
    expect(kindOf(name)).toEqual(expected);
  });

  it.each([["kubernetes://other/own"], ["kubernetes://other/own-cacert"], ["kubernetes://../other/own"], ["kubernetes:///own"]])(
    "%s of another namespace is nobody's",
    (name) => {
      for (const proxy of [routerNode({ namespace: "edge" }), sidecarNode({ namespace: "edge" })]) {
        expect(kindOf(name, proxy)).toMatch(/may not read|none/);
      }
    },
  );

  it.each([
    ["kept", "kubernetes://own", "tlsCertificate"],
    ["kept", "kubernetes://with-ca", expect.stringContaining("kept to the secrets that it lists")],
    ["kept", "kubernetes://with-ca-cacert", "validationContext"],
    ["default", "kubernetes://with-ca", "tlsCertificate"],
  ])("account %s reads %s as %s, whatever kind of proxy it is", (serviceAccount, name, expected) => {
    const metadata = { SERVICE_ACCOUNT: serviceAccount };
    for (const proxy of [routerNode({ namespace: "edge", metadata }), sidecarNode({ namespace: "edge", metadata })]) {
      expect(kindOf(name, proxy)).toEqual(expected);
    }
  });

  it.each([["kubernetes://cacerts"], ["kubernetes://cacerts-cacert"], ["kubernetes://istio-system/cacerts"]])(
    "%s, the authority's own, is nobody's",
    (name) => {
      expect(kindOf(name, routerNode({ namespace: "istio-system" }))).toContain("authority's own");
    },
  );

  it("carries the revocation list of the CA", () => {
    const result = controlPlaneSecret("kubernetes://beside-cacert", routerNode({ namespace: "edge" }), push);
    const secret = result && "secret" in result ? result.secret.type : undefined;
    expect(secret?.case === "validationContext" && secret.value.crl?.specifier.case).toBe("inlineBytes");
  });
});
