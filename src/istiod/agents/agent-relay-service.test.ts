import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { ChannelCredentials, Client, type ClientDuplexStream, Metadata, status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type AdminRequest, type FromAgent, FromAgentSchema } from "../../api/gen/topsail/agent/v1/relay_pb.js";
import { Istiod } from "../istiod.ts";
import { agentRelayDefinition } from "./agent-relay-service.ts";

const loopback = { host: "127.0.0.1", port: 0 };
let directory: string;
let istiod: Istiod;
let client: Client;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "topsail-relay-"));
  istiod = await Istiod.start({
    dataDir: join(directory, "data"),
    grpc: loopback,
    secureGrpc: loopback,
    monitoring: loopback,
    domain: "cluster.local",
  });
  const { port, authority } = istiod.secure!;
  client = new Client(`127.0.0.1:${port}`, ChannelCredentials.createSsl(Buffer.from(authority.trustBundle)), {
    "grpc.ssl_target_name_override": "istiod.istio-system.svc",
  });
});
afterAll(async () => {
  client.close();
  await istiod[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});

/** A stream by the token of the account `default` in the namespace `shop`; without one by nobody's. */
async function open(hasToken = true): Promise<ClientDuplexStream<FromAgent, AdminRequest>> {
  const metadata = new Metadata();
  const account = { namespace: "shop", serviceAccount: "default" };
  if (hasToken) metadata.set("authorization", `Bearer ${(await istiod.secure!.tokens.issue(account, ["istio-ca"], 600)).token}`);
  const { path, requestSerialize, responseDeserialize } = agentRelayDefinition.Serve!;
  return client.makeBidiStreamRequest<FromAgent, AdminRequest>(path, requestSerialize, responseDeserialize, metadata);
}

const hello = (namespace: string, serviceAccount: string, name = "vm") =>
  create(FromAgentSchema, {
    message: {
      case: "hello",
      value: {
        node: {
          id: `sidecar~10.0.0.1~${name}.${namespace}~${namespace}.svc.cluster.local`,
          metadata: { NAMESPACE: namespace, SERVICE_ACCOUNT: serviceAccount },
        },
      },
    },
  });
const response = create(FromAgentSchema, { message: { case: "response", value: { id: 1 } } });
const codeOf = (stream: ClientDuplexStream<FromAgent, AdminRequest>) =>
  new Promise((resolve) => stream.on("error", ({ code }: { code?: number }) => resolve(code)));
const question = { port: 15000, method: "GET", path: "/stats", body: new Uint8Array() };

describe("the relay's service", () => {
  it.each<[string, boolean, FromAgent[], status]>([
    ["nobody", false, [hello("shop", "default")], status.UNAUTHENTICATED],
    ["another namespace's name", true, [hello("bank", "web")], status.PERMISSION_DENIED],
    ["another account's name", true, [hello("shop", "vault")], status.PERMISSION_DENIED],
    ["a name that no pod has", true, [hello("shop", "default", "a/b")], status.INVALID_ARGUMENT],
    ["an answer before a name", true, [response], status.INVALID_ARGUMENT],
    ["a second name", true, [hello("shop", "default"), hello("shop", "default", "other")], status.INVALID_ARGUMENT],
  ])("refuses %s", async (_, hasToken, messages, code) => {
    const stream = await open(hasToken);
    const ended = codeOf(stream);
    for (const message of messages) stream.write(message);
    expect(await ended).toBe(code);
    await expect(istiod.secure!.relays.ask({ namespace: "shop", name: "vm" }, question)).rejects.toThrow("no agent of that name");
  });

  it("asks the agent of a pod while it is connected", async () => {
    const stream = await open();
    stream.on("error", () => {});
    stream.write(hello("shop", "default"));
    const ask = () => istiod.secure!.relays.ask({ namespace: "shop", name: "vm" }, question);
    stream.on("data", ({ id, path }: AdminRequest) =>
      stream.write(
        create(FromAgentSchema, {
          message: { case: "response", value: { id, status: 200, contentType: "text/plain", body: Buffer.from(path), isLast: true } },
        }),
      ),
    );
    await expect
      .poll(() =>
        ask().then(
          ({ body }) => body.toString(),
          () => "",
        ),
      )
      .toBe("/stats");
    stream.cancel();
    await expect
      .poll(() =>
        ask().then(
          () => "",
          ({ message }: Error) => message,
        ),
      )
      .toContain("no agent of that name");
  });
});
