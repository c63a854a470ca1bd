/** One-time codes against a real control plane: what they bring, and whom they bring nothing. */
import { createServer, type Server } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { decodeObject } from "../../src/api/documents/decode-object.ts";
import { formatCode, type InvitationCode, invitationSecret, newCode, parseCode } from "../../src/api/machine/invitation.ts";
import type { WritableConfigStore } from "../../src/config/store.ts";
import { Istiod } from "../../src/istiod/istiod.ts";
import { discover, redeem } from "../../src/join/control-plane.ts";
import { runTopsail } from "../support/topsail.ts";

const loopback = { host: "127.0.0.1", port: 0 };
let istiod: Istiod;
let other: Istiod;
const address = () => ({ host: "127.0.0.1", port: istiod.secure!.port });
const store = () => istiod.discovery.store as WritableConfigStore;

beforeAll(async () => {
  const start = () => Istiod.start({ grpc: loopback, secureGrpc: loopback, monitoring: loopback, domain: "cluster.local" });
  istiod = await start();
  other = await start();
  await put({ apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "ratings", namespace: "shop" } });
  await put({
    apiVersion: "networking.istio.io/v1",
    kind: "WorkloadGroup",
    metadata: { name: "ratings", namespace: "shop" },
    spec: { template: { serviceAccount: "ratings" }, probe: { tcpSocket: { port: 1 } } },
  });
});
afterAll(async () => {
  await istiod[Symbol.asyncDispose]();
  await other[Symbol.asyncDispose]();
});

async function put(raw: unknown, into = store()): Promise<void> {
  const { object, errors } = decodeObject(raw);
  if (!object) throw errors[0];
  await into.put(object);
}

async function invite(expiresAt = new Date(Date.now() + 60_000), into = store()): Promise<InvitationCode> {
  const code = newCode();
  await put(invitationSecret(code, { namespace: "shop", group: "ratings", expiresAt }, "istio-system"), into);
  return parseCode(formatCode(code))!;
}

const refused = /not known, has been used, or is too old/;

describe("a one-time code", () => {
  it("brings a machine's files, once", async () => {
    const code = await invite();
    const discovered = await discover(address(), code);
    expect(discovered).toEqual({ roots: istiod.secure!.authority.trustBundle, group: "shop/ratings" });
    const files = await redeem(address(), code, discovered);
    expect(Object.keys(files).sort()).toEqual(["cluster.env", "istio-token", "mesh.yaml", "root-cert.pem"]);
    expect(files["cluster.env"]).toContain("ISTIO_META_AUTO_REGISTER_GROUP='ratings'");
    expect(files["mesh.yaml"]).toContain("tcpSocket");
    const { sub } = JSON.parse(Buffer.from(files["istio-token"]!.split(".")[1]!, "base64url").toString("utf8"));
    expect(sub).toBe("system:serviceaccount:shop:ratings");
    await expect(redeem(address(), code, discovered)).rejects.toThrow(refused);
    await expect(discover(address(), code)).rejects.toThrow(refused);
  });

  it("brings them to one machine when two come at the same time", async () => {
    const code = await invite();
    const discovered = await discover(address(), code);
    const results = await Promise.allSettled([1, 2, 3].map(() => redeem(address(), code, discovered)));
    expect(results.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected", "rejected"]);
  });

  it("is nothing when its time is over", async () => {
    await expect(discover(address(), await invite(new Date(Date.now() - 1)))).rejects.toThrow(refused);
  });

  it("is withdrawn when somebody guesses at it", async () => {
    const code = await invite();
    const discovered = await discover(address(), code);
    const guess = { ...newCode(), id: code.id };
    for (let tries = 0; tries < 5; tries++) await expect(redeem(address(), guess, discovered)).rejects.toThrow(refused);
    await expect(redeem(address(), code, discovered)).rejects.toThrow(refused);
  });

  it("does not work with a control plane that did not make it", async () => {
    const code = await invite();
    // The other one knows the id, as somebody does who saw it pass by.
    await put(
      invitationSecret(
        { ...newCode(), id: code.id },
        { namespace: "shop", group: "ratings", expiresAt: new Date(Date.now() + 60_000) },
        "istio-system",
      ),
      other.discovery.store as WritableConfigStore,
    );
    const there = { host: "127.0.0.1", port: other.secure!.port };
    await expect(discover(there, code)).rejects.toThrow(/is not the control plane that made this code/);
  });

  it("is not said to a server whose root is another than the proven one", async () => {
    const code = await invite();
    const discovered = await discover(address(), code);
    await expect(redeem({ host: "127.0.0.1", port: other.secure!.port }, code, discovered)).rejects.toThrow(/can't be called/);
    expect(Object.keys(await redeem(address(), code, discovered))).toHaveLength(4);
  });

  it("says so when the group is gone", async () => {
    const code = newCode();
    const to = { namespace: "shop", group: "gone", expiresAt: new Date(Date.now() + 60_000) };
    await put(invitationSecret(code, to, "istio-system"));
    await expect(redeem(address(), code, await discover(address(), code))).rejects.toThrow("there is no WorkloadGroup shop/gone any more");
  });
});

describe("topsail join", () => {
  it("shows what it would do, and leaves the code good", async () => {
    const code = await invite();
    const { port } = address();
    const { child } = await runInBackground(["join", `127.0.0.1:${port}`, "--token", "-", "--dry-run"], formatCode(code));
    expect(child.stdout).toContain("would join workload group shop/ratings");
    expect(child.stdout).toContain("would write /var/run/secrets/tokens/istio-token (600, istio-proxy)");
    expect(child.status).toBe(0);
    expect(await discover(address(), code)).toBeDefined();
  });

  let silent: Server;
  beforeAll(async () => {
    silent = createServer((socket) => socket.destroy());
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  });
  afterAll(() => void silent.close());

  it.each([
    [[], "error: no address of a control plane"],
    [["127.0.0.1"], "error: no --token"],
    [["127.0.0.1", "--token", "abc"], "error: --token is no code of 'istioctl x workload invite'"],
    [["127.0.0.1", "--token", formatCode(newCode()), "--gateway", "../x"], 'error: --gateway: "../x" is no name'],
    [["127.0.0.1:x", "--token", formatCode(newCode()), "--dry-run"], "error: ADDRESS: "],
  ])("refuses %j", (args, message) => {
    const { status, stderr } = runTopsail(["join", ...args]);
    expect(stderr).toContain(message);
    expect(status).toBe(1);
  });

  it("says when nobody answers, and never prints the code", () => {
    const code = formatCode(newCode());
    const port = (silent.address() as { port: number }).port;
    const { status, stdout, stderr } = runTopsail(["join", `127.0.0.1:${port}`, "--token", code, "--dry-run"]);
    expect(stderr).toContain(`error: 127.0.0.1:${port} can't be called`);
    expect(stdout + stderr).not.toContain(code.split(".")[1]);
    expect(status).toBe(1);
  });
});

/** The control plane lives in this process, which must not be held up meanwhile. */
async function runInBackground(args: string[], input: string) {
  const { spawn } = await import("node:child_process");
  const { binary } = await import("../support/topsail.ts");
  const started = spawn(binary, args, { stdio: ["pipe", "pipe", "pipe"] });
  const output = { stdout: "", stderr: "", status: null as number | null };
  started.stdout.on("data", (chunk) => {
    output.stdout += chunk;
  });
  started.stderr.on("data", (chunk) => {
    output.stderr += chunk;
  });
  started.stdin.end(input);
  output.status = await new Promise((resolve) => started.once("close", resolve));
  return { child: output };
}
