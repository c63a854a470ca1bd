import { execFile, spawnSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { callApi, createToken, type Kubeconfig, readKubeconfig } from "../../../test/support/kube-api.ts";
import { Istiod } from "../istiod.ts";

const hasKubectl = spawnSync("kubectl", ["version", "--client"]).status === 0;
if (!hasKubectl) process.stderr.write("no kubectl on this machine: its test is skipped\n");

const loopback = { host: "127.0.0.1", port: 0 };
const path = (namespace: string, name: string) => `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`;

describe("the Kubernetes-compatible API", () => {
  let directory: string;
  let istiod: Istiod;
  let config: Kubeconfig;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "topsail-api-"));
    istiod = await Istiod.start({
      dataDir: join(directory, "data"),
      grpc: loopback,
      secureGrpc: loopback,
      kubeApi: loopback,
      kubeconfigOut: join(directory, "kubeconfig"),
      monitoring: loopback,
      domain: "cluster.local",
    });
    config = readKubeconfig(join(directory, "kubeconfig"));
  });
  afterAll(async () => {
    await istiod[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });

  it("gives a token for an audience, and the kubeconfig is its owner's alone", async () => {
    expect(statSync(join(directory, "kubeconfig")).mode & 0o777).toBe(0o600);
    const token = await createToken(config, "vm", "default");
    expect(await istiod.secure!.tokens.verify(token, "istio-ca")).toEqual({ namespace: "vm", serviceAccount: "default" });
    await expect(istiod.secure!.tokens.verify(token, "other")).rejects.toThrow("aud");
  });

  it.each<[string, string, string, unknown, number, string]>([
    ["an account that there is not", "POST", path("vm", "nobody"), {}, 404, "not found"],
    ["too short a life", "POST", path("vm", "default"), { spec: { expirationSeconds: 10 } }, 400, "less than 10 minutes"],
    ["a life that is no number", "POST", path("vm", "default"), { spec: { expirationSeconds: "1h" } }, 400, "spec.expirationSeconds"],
    ["audiences that are no list", "POST", path("vm", "default"), { spec: { audiences: "istio-ca" } }, 400, "spec.audiences"],
    ["another kind", "POST", path("vm", "default"), { kind: "Pod" }, 400, "not a TokenRequest"],
    ["protobuf of another kind", "POST", path("vm", "default"), "k8s\0\n\x09\n\x02v1\x12\x03Pod", 400, "a Pod is taken as JSON only"],
    ["broken protobuf", "POST", path("vm", "default"), "k8s\0\xff\xff", 400, "can't be read"],
    ["no JSON", "POST", path("vm", "default"), "{", 400, "can't be read"],
    ["2 MB", "POST", path("vm", "default"), "x".repeat(2_000_000), 413, "larger than"],
    ["another method", "GET", path("vm", "default"), undefined, 405, "method"],
    ["another path", "GET", "/apis/nothing", undefined, 404, "could not find"],
  ])("refuses %s", async (_, method, url, body, code, message) => {
    const answer = await callApi(config, method, url, body);
    expect(answer).toMatchObject({ code, body: { kind: "Status", status: "Failure", message: expect.stringContaining(message), code } });
  });

  it.skipIf(!hasKubectl)("is called by a stock kubectl", async () => {
    const args = ["--kubeconfig", join(directory, "kubeconfig"), "create", "token"];
    const kubectl = promisify(execFile);
    const { stdout } = await kubectl("kubectl", [...args, "default", "-n", "vm", "--audience", "istio-ca", "--duration", "1h"]);
    expect(await istiod.secure!.tokens.verify(stdout.trim(), "istio-ca")).toEqual({ namespace: "vm", serviceAccount: "default" });
    await expect(kubectl("kubectl", [...args, "nobody", "-n", "vm"])).rejects.toThrow('serviceaccounts "nobody" not found');
  });

  it("knows nobody without a certificate, and no workload", async () => {
    expect(await callApi(config, "POST", path("vm", "default"), {}, null)).toMatchObject({ code: 401 });
    const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const { chain } = await istiod.secure!.authority.sign(publicKey, [], 3600, { O: "system:masters", CN: "intruder" });
    const workload = { cert: chain.join(""), key: privateKey.export({ type: "pkcs8", format: "pem" }) as string };
    expect(await callApi(config, "POST", path("vm", "default"), {}, workload)).toMatchObject({ code: 401 });
  });
});
