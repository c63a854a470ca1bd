import { generateKeyPairSync } from "node:crypto";
import { statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ApiControlPlane, startApiControlPlane } from "../../../test/support/api-control-plane.ts";
import { callApi, createToken, type Kubeconfig, watchApi } from "../../../test/support/kube-api.ts";
import type { Istiod } from "../istiod.ts";

const tokens = (namespace: string, name: string) => `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`;
const configMaps = "/api/v1/namespaces/default/configmaps";
const virtualServices = "/apis/networking.istio.io/v1/namespaces/default/virtualservices";
const mergePatch = { "content-type": "application/merge-patch+json" };

const fromFile = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: from-file, namespace: files }
spec: { hosts: [a.example.com], http: [{ route: [{ destination: { host: a.example.com } }] }] }
`;

describe("the Kubernetes-compatible API", () => {
  let plane: ApiControlPlane;
  let istiod: Istiod;
  let config: Kubeconfig;

  beforeAll(async () => {
    plane = await startApiControlPlane({ "vs.yaml": fromFile });
    ({ istiod, config } = plane);
  });
  afterAll(() => plane[Symbol.asyncDispose]());

  const call = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
    callApi(config, method, path, body, undefined, headers);
  const asAccount = (token: string) => ({ authorization: `Bearer ${token}` });

  describe("who calls", () => {
    it("gives a token for an audience, and the kubeconfig is its owner's alone", async () => {
      expect(statSync(plane.kubeconfig).mode & 0o777).toBe(0o600);
      const token = await createToken(config, "vm", "default");
      expect(await istiod.secure!.tokens.verify(token, "istio-ca")).toEqual({ namespace: "vm", serviceAccount: "default" });
      await expect(istiod.secure!.tokens.verify(token, "other")).rejects.toThrow("aud");
    });

    it("is nobody without a certificate, and is refused with a workload's or an unknown token", async () => {
      expect(await callApi(config, "GET", configMaps, undefined, null)).toMatchObject({
        code: 403,
        body: {
          message:
            'configmaps is forbidden: User "system:anonymous" cannot list resource "configmaps" in API group "" in the namespace "default"',
        },
      });
      expect(await callApi(config, "GET", "/version", undefined, null)).toMatchObject({ code: 200, body: { major: "1" } });
      expect(await callApi(config, "GET", "/apis", undefined, null)).toMatchObject({ code: 403 });
      const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
      const { chain } = await istiod.secure!.authority.sign(publicKey, [], 3600, { O: "system:masters", CN: "intruder" });
      const workload = { cert: chain.join(""), key: privateKey.export({ type: "pkcs8", format: "pem" }) as string };
      expect(await callApi(config, "GET", configMaps, undefined, workload)).toMatchObject({ code: 401, body: { reason: "Unauthorized" } });
      expect(await callApi(config, "GET", configMaps, undefined, null, asAccount("x.y.z"))).toMatchObject({ code: 401 });
      expect(await callApi(config, "GET", configMaps, undefined, null, { authorization: "Basic YTpi" })).toMatchObject({ code: 401 });
    });

    it("is a service account with a token for the API, which may look but not touch", async () => {
      const { body } = await call("POST", tokens("default", "default"), {});
      const { token } = body.status as { token: string };
      const review = { kind: "SelfSubjectReview", apiVersion: "authentication.k8s.io/v1" };
      expect(
        await callApi(config, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review, null, asAccount(token)),
      ).toMatchObject({
        code: 201,
        body: { status: { userInfo: { username: "system:serviceaccount:default:default" } } },
      });
      expect(await callApi(config, "GET", "/apis", undefined, null, asAccount(token))).toMatchObject({ code: 200 });
      for (const [method, path] of [
        ["GET", configMaps],
        ["POST", configMaps],
        ["POST", tokens("default", "default")],
        ["DELETE", "/api/v1/namespaces/vm"],
      ] as const)
        expect(await callApi(config, method, path, undefined, null, asAccount(token))).toMatchObject({ code: 403 });
      // A token for the mesh is none for the API.
      const other = await createToken(config, "default", "default");
      expect(await callApi(config, "GET", "/apis", undefined, null, asAccount(other))).toMatchObject({ code: 401 });
    });

    it("can't be somebody else", async () => {
      expect(await call("GET", configMaps, undefined, { "impersonate-user": "somebody" })).toMatchObject({
        code: 403,
        body: { message: expect.stringContaining("impersonation") },
      });
    });
  });

  it.each<[string, string, string, unknown, number, string]>([
    ["an account that there is not", "POST", tokens("default", "nobody"), {}, 404, "not found"],
    ["a namespace that there is not", "POST", tokens("nowhere", "default"), {}, 404, 'namespaces "nowhere" not found'],
    ["too short a life", "POST", tokens("default", "default"), { spec: { expirationSeconds: 10 } }, 400, "less than 10 minutes"],
    [
      "a life that is no number",
      "POST",
      tokens("default", "default"),
      { spec: { expirationSeconds: "1h" } },
      400,
      "spec.expirationSeconds",
    ],
    ["audiences that are no list", "POST", tokens("default", "default"), { spec: { audiences: "istio-ca" } }, 400, "spec.audiences"],
    ["another kind for a token", "POST", tokens("default", "default"), { kind: "Pod" }, 400, "not a TokenRequest"],
    ["no JSON", "POST", configMaps, "{", 400, "is not JSON"],
    ["a list", "POST", configMaps, [], 400, "unrecognized"],
    ["nothing", "POST", configMaps, undefined, 400, "unrecognized"],
    ["4 MB", "POST", configMaps, "x".repeat(4_000_000), 413, "too large"],
    ["a deep object", "POST", configMaps, `${"[".repeat(5000)}${"]".repeat(5000)}`, 400, "nested deeper"],
    ["a prototype", "POST", configMaps, '{"metadata":{"__proto__":{"name":"x"}}}', 400, "__proto__"],
    ["another kind", "POST", configMaps, { kind: "Secret", metadata: { name: "x" } }, 400, 'is a "Secret"'],
    [
      "another version",
      "POST",
      virtualServices,
      { apiVersion: "networking.istio.io/v1beta1", metadata: { name: "x" } },
      400,
      "does not match the expected API version",
    ],
    ["another namespace", "POST", configMaps, { metadata: { name: "x", namespace: "other" } }, 400, "does not match the namespace"],
    [
      "a namespace that is missing",
      "POST",
      "/api/v1/namespaces/nowhere/configmaps",
      { metadata: { name: "x" } },
      404,
      'namespaces "nowhere" not found',
    ],
    ["no name", "POST", configMaps, { metadata: {} }, 422, "name or generateName is required"],
    ["a name that is a path", "POST", configMaps, { metadata: { name: "../x" } }, 422, "metadata.name: Invalid value"],
    ["a version of an object to be made", "POST", configMaps, { metadata: { name: "x", resourceVersion: "1" } }, 400, "should not be set"],
    ["another name", "PUT", `${configMaps}/a`, { metadata: { name: "b" } }, 404, "not found"],
    ["creation for all namespaces", "POST", "/api/v1/configmaps", { metadata: { name: "x" } }, 405, "method"],
    ["creation under a name", "POST", `${configMaps}/x`, { metadata: { name: "x" } }, 405, "method"],
    ["another path", "GET", "/apis/nothing/v1/things", undefined, 404, "could not find the requested resource"],
    ["a path that leaves its place", "GET", "/api/v1/namespaces/../../../etc/passwd", undefined, 404, "could not find"],
    ["a subresource that there is not", "GET", `${configMaps}/istio-ca-root-cert/status`, undefined, 404, "could not find"],
    ["a selector that can't be read", "GET", `${configMaps}?labelSelector=a%20b`, undefined, 400, "unable to parse requirement"],
    ["a field that can't be selected", "GET", `${configMaps}?fieldSelector=data.x%3D1`, undefined, 400, "not a known field selector"],
    ["a limit that is no number", "GET", `${configMaps}?limit=many`, undefined, 400, "is not a number"],
    ["a continue token of nobody's", "GET", `${configMaps}?continue=abc`, undefined, 400, "continue key is not valid"],
    ["a version of the future", "GET", `${configMaps}?resourceVersion=9000000000000000`, undefined, 504, "Too large resource version"],
    ["a dry run that is none", "POST", `${configMaps}?dryRun=Some`, { metadata: { name: "x" } }, 400, "dryRun"],
    ["a check that is none", "POST", `${configMaps}?fieldValidation=Maybe`, { metadata: { name: "x" } }, 400, "fieldValidation"],
    ["options that are none", "DELETE", `${configMaps}/istio-ca-root-cert`, { kind: "Pod" }, 400, "DeleteOptions"],
    ["a namespace that must stay", "DELETE", "/api/v1/namespaces/default", undefined, 403, "may not be deleted"],
    ["a patch without a type", "PATCH", `${configMaps}/istio-ca-root-cert`, {}, 415, "accepted media types"],
  ])("refuses %s", async (_, method, url, body, code, message) => {
    const answer = await call(method, url, body);
    expect(answer).toMatchObject({ code, body: { kind: "Status", status: "Failure", message: expect.stringContaining(message), code } });
  });

  it("refuses other encodings, and forms of an answer that it doesn't have", async () => {
    expect(await call("POST", configMaps, "a=b", { "content-type": "text/plain" })).toMatchObject({ code: 415 });
    expect(await call("POST", configMaps, "k8s\0\xff\xff", { "content-type": "application/vnd.kubernetes.protobuf" })).toMatchObject({
      code: 400,
    });
    expect(await call("GET", configMaps, undefined, { accept: "text/html" })).toMatchObject({ code: 406 });
    expect(await call("PATCH", `${virtualServices}/x`, {}, { "content-type": "application/strategic-merge-patch+json" })).toMatchObject({
      code: 404,
    });
  });

  it("leaves the objects of files to their files, and says which", async () => {
    const path = "/apis/networking.istio.io/v1/namespaces/files/virtualservices/from-file";
    const { code, body } = await call("GET", path);
    expect([code, body.kind]).toEqual([200, "VirtualService"]);
    const place = `it is written in ${join(plane.configDir, "vs.yaml")}:2 and is to be edited there`;
    for (const answer of [
      await call("DELETE", path),
      await call("DELETE", `${path}?dryRun=All`),
      await call("PUT", path, body),
      await call("PATCH", path, { metadata: { labels: { a: "b" } } }, mergePatch),
      await call("DELETE", "/apis/networking.istio.io/v1/namespaces/files/virtualservices"),
    ])
      expect(answer).toMatchObject({ code: 403, body: { message: expect.stringContaining(place) } });
    expect(
      await call("POST", "/apis/networking.istio.io/v1/namespaces/files/virtualservices", { ...body, metadata: { name: "from-file" } }),
    ).toMatchObject({ code: 409, body: { reason: "AlreadyExists" } });
    // The namespace was made for it, and stays as long as it does.
    expect(await call("DELETE", "/api/v1/namespaces/files")).toMatchObject({
      code: 409,
      body: { message: expect.stringContaining("vs.yaml:2") },
    });
  });

  it("refuses a write to what has changed meanwhile, and does a patch that names no version again", async () => {
    const made = await call("POST", configMaps, { metadata: { name: "contested" }, data: { n: "0" } });
    const first = made.body as { metadata: { resourceVersion: string } };
    await call("PATCH", `${configMaps}/contested`, { data: { n: "1" } }, mergePatch);
    expect(await call("PUT", `${configMaps}/contested`, first)).toMatchObject({
      code: 409,
      body: { reason: "Conflict", message: expect.stringContaining("the object has been modified") },
    });
    expect(
      await call("PATCH", `${configMaps}/contested`, { metadata: { resourceVersion: first.metadata.resourceVersion } }, mergePatch),
    ).toMatchObject({ code: 409 });
    expect(await call("DELETE", `${configMaps}/contested`, { preconditions: { uid: "other" } })).toMatchObject({ code: 409 });
    const codes = await Promise.all(
      Array.from({ length: 5 }, (_, index) => call("PATCH", `${configMaps}/contested`, { data: { [`k${index}`]: "x" } }, mergePatch)),
    );
    expect(codes.map(({ code }) => code)).toEqual([200, 200, 200, 200, 200]);
    const { body } = await call("GET", `${configMaps}/contested`);
    expect(Object.keys(body.data as object).sort()).toEqual(["k0", "k1", "k2", "k3", "k4", "n"]);
  });

  it("wants a version for the replacement of a custom object, and keeps what only the system says", async () => {
    const object = {
      metadata: { name: "v", uid: "mine", generation: 7, creationTimestamp: "2000-01-01T00:00:00Z" },
      spec: { hosts: ["a.b"], http: [{ redirect: { uri: "/" } }] },
      status: { x: 1 },
    };
    const { body } = await call("POST", virtualServices, object);
    const made = body as { metadata: Record<string, unknown>; spec: object };
    expect(made).not.toHaveProperty("status");
    expect(made.metadata.uid).not.toBe("mine");
    expect(made.metadata.generation).toBe(1);
    const { resourceVersion: _, ...metadata } = made.metadata;
    expect(await call("PUT", `${virtualServices}/v`, { ...made, metadata })).toMatchObject({
      code: 422,
      body: { message: expect.stringContaining("must be specified for an update") },
    });
    expect(await call("PUT", `${virtualServices}/v`, { ...made, metadata: { ...made.metadata, uid: "mine" } })).toMatchObject({
      code: 409,
    });
    const changed = await call("PUT", `${virtualServices}/v`, { ...made, spec: { ...made.spec, hosts: ["c.d"] }, status: { x: 1 } });
    expect(changed).toMatchObject({ code: 200, body: { metadata: { generation: 2, uid: made.metadata.uid } } });
    expect(changed.body).not.toHaveProperty("status");
    const status = await call("PATCH", `${virtualServices}/v/status`, { status: { x: 1 }, spec: { hosts: ["e.f"] } }, mergePatch);
    expect(status.body).toMatchObject({ metadata: { generation: 2 }, spec: { hosts: ["c.d"] }, status: { x: 1 } });
  });

  it("stores nothing in a dry run", async () => {
    const made = await call("POST", `${configMaps}?dryRun=All`, { metadata: { name: "dry" } });
    expect(made).toMatchObject({ code: 201, body: { metadata: { name: "dry", uid: expect.any(String) } } });
    expect(await call("GET", `${configMaps}/dry`)).toMatchObject({ code: 404 });
    expect(await call("DELETE", `${configMaps}/istio-ca-root-cert?dryRun=All`)).toMatchObject({ code: 200 });
    expect(await call("GET", `${configMaps}/istio-ca-root-cert`)).toMatchObject({ code: 200 });
    expect(await call("POST", "/api/v1/namespaces?dryRun=All", { metadata: { name: "dry" } })).toMatchObject({ code: 201 });
    expect(await call("GET", "/api/v1/namespaces/dry")).toMatchObject({ code: 404 });
  });

  it("holds an object that has finalizers until they are gone", async () => {
    await call("POST", configMaps, { metadata: { name: "held", finalizers: ["example.com/hold"] } });
    expect(await call("DELETE", `${configMaps}/held`)).toMatchObject({
      code: 200,
      body: { metadata: { deletionTimestamp: expect.any(String) } },
    });
    expect(await call("GET", `${configMaps}/held`)).toMatchObject({ code: 200 });
    expect(await call("PATCH", `${configMaps}/held`, { metadata: { finalizers: null } }, mergePatch)).toMatchObject({ code: 200 });
    expect(await call("GET", `${configMaps}/held`)).toMatchObject({ code: 404 });
  });

  it("deletes what belonged to an object that is deleted", async () => {
    const { body } = await call("POST", configMaps, { metadata: { name: "owner" } });
    const { uid } = body.metadata as { uid: string };
    const ownerReferences = [{ apiVersion: "v1", kind: "ConfigMap", name: "owner", uid }];
    await call("POST", configMaps, { metadata: { name: "owned", ownerReferences } });
    await call("POST", configMaps, {
      metadata: {
        name: "shared",
        ownerReferences: [...ownerReferences, { ...ownerReferences[0], uid: await uidOf("istio-ca-root-cert") }],
      },
    });
    using watch = await watchApi(config, `${configMaps}?watch=true&fieldSelector=metadata.name%3Downed`);
    await call("DELETE", `${configMaps}/owner`);
    await watch.seen(2);
    expect(watch.events.map(({ type }) => type)).toEqual(["ADDED", "DELETED"]);
    expect(await call("GET", `${configMaps}/shared`)).toMatchObject({ code: 200 });
  });

  async function uidOf(name: string): Promise<string> {
    return ((await call("GET", `${configMaps}/${name}`)).body.metadata as { uid: string }).uid;
  }

  it("gives the control plane's own ConfigMaps back to whoever took them, and refuses a wrong mesh", async () => {
    const path = `${configMaps}/istio-ca-root-cert`;
    using watch = await watchApi(config, `${configMaps}?watch=true&fieldSelector=metadata.name%3Distio-ca-root-cert`);
    await watch.seen(1);
    await call("DELETE", path);
    await watch.seen(3);
    await call("PATCH", path, { data: { "root-cert.pem": "mine" } }, mergePatch);
    await watch.seen(5);
    expect((watch.events.at(-1)!.object.data as Record<string, string>)["root-cert.pem"]).toBe(istiod.secure!.authority.trustBundle);
    const mesh = "/api/v1/namespaces/istio-system/configmaps/istio";
    expect(await call("PATCH", mesh, { data: { mesh: "outboundTrafficPolicy: { mode: NOTHING }" } }, mergePatch)).toMatchObject({
      code: 422,
      body: { message: expect.stringContaining("data[mesh]"), details: { causes: [{ reason: "FieldValueInvalid", field: "data[mesh]" }] } },
    });
    expect(await call("PATCH", mesh, { data: { mesh: "outboundTrafficPolicy: { mode: REGISTRY_ONLY }" } }, mergePatch)).toMatchObject({
      code: 200,
    });
    expect(istiod.discovery.mesh.outboundTrafficPolicy?.mode).toBe("REGISTRY_ONLY");
  });

  it("deletes a namespace with all that is in it, and lets nothing new in meanwhile", async () => {
    await call("POST", "/api/v1/namespaces", { metadata: { name: "doomed" } });
    for (let index = 0; index < 20; index++)
      await call("POST", "/api/v1/namespaces/doomed/configmaps", { metadata: { generateName: "c-" } });
    using watch = await watchApi(config, "/api/v1/namespaces?watch=true&fieldSelector=metadata.name%3Ddoomed");
    const deletion = call("DELETE", "/api/v1/namespaces/doomed");
    await watch.seen(3);
    expect(await deletion).toMatchObject({ code: 200, body: { status: { phase: "Terminating" } } });
    expect(watch.events.map(({ type }) => type)).toEqual(["ADDED", "MODIFIED", "DELETED"]);
    expect(await call("GET", "/api/v1/configmaps?fieldSelector=metadata.namespace%3Ddoomed")).toMatchObject({ body: { items: [] } });
    expect(await call("POST", "/api/v1/namespaces/doomed/configmaps", { metadata: { name: "late" } })).toMatchObject({ code: 404 });
  });
});
