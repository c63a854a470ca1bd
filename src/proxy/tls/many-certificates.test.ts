/** What a worker does with the certificates of hundreds of servers: nothing, until somebody wants to see one. */
import { connect } from "node:tls";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { makeMeshCa } from "../../../test/support/mesh-ca.ts";
import { SecretSchema } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { staticWorker } from "../testing/static-update.ts";
import type { NamedBytes } from "../update.ts";
import { WorkerState } from "../worker-state.ts";
import { SecretStore } from "./secret.ts";
import { SecureContexts } from "./secure-contexts.ts";

const servers = 600;
const ca = makeMeshCa();
const identities = { old: ca.issueFor("DNS:*.test"), new: ca.issueFor("DNS:*.test,DNS:new") };

function secretBytes(name: string, { certificate, key } = identities.old): Uint8Array {
  const inline = (text: string) => ({ specifier: { case: "inlineBytes" as const, value: Buffer.from(text) } });
  const value = { certificateChain: inline(certificate), privateKey: inline(key) };
  return toBinary(SecretSchema, create(SecretSchema, { name, type: { case: "tlsCertificate", value } }));
}

function configuration(): string {
  const type = (name: string) => `type.googleapis.com/envoy.extensions.${name}`;
  const sds_config = { ads: {}, resource_api_version: "V3" };
  const bootstrap = {
    static_resources: {
      listeners: [
        {
          name: "tls",
          address: { socket_address: { address: "127.0.0.1", port_value: 0 } },
          listener_filters: [{ name: "tls", typed_config: { "@type": type("filters.listener.tls_inspector.v3.TlsInspector") } }],
          filter_chains: Array.from({ length: servers }, (_, index) => ({
            filter_chain_match: { server_names: [`server-${index}.test`] },
            filters: [
              {
                name: "tcp",
                typed_config: { "@type": type("filters.network.tcp_proxy.v3.TcpProxy"), stat_prefix: "tcp", cluster: "nowhere" },
              },
            ],
            transport_socket: {
              name: "tls",
              typed_config: {
                "@type": type("transport_sockets.tls.v3.DownstreamTlsContext"),
                common_tls_context: { tls_certificate_sds_secret_configs: [{ name: `secret-${index}`, sds_config }] },
              },
            },
          })),
        },
      ],
    },
  };
  // Six hundred aliases for one object are refused.
  return stringify(bootstrap, { aliasDuplicateObjects: false });
}

describe("Many certificates", () => {
  let worker: WorkerState;
  let port = 0;
  let sequence = 1;
  const applied = new Map<number, () => void>();

  /** Resolves when it is in force. */
  function update(parts: { readonly secrets?: readonly NamedBytes[]; readonly removedSecrets?: readonly string[] }): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    applied.set(++sequence, resolve);
    worker.update({ type: "update", sequence, ...parts });
    return promise;
  }

  beforeAll(async () => {
    const { data, update: first } = staticWorker(configuration());
    worker = new WorkerState(data, (message) => {
      if (message.type !== "applied") return;
      port = message.bound[0]?.port ?? port;
      applied.get(message.sequence)?.();
    });
    const secrets = Array.from({ length: servers }, (_, index) => ({ name: `secret-${index}`, bytes: secretBytes(`secret-${index}`) }));
    worker.update(first);
    await update({ secrets });
  });
  afterAll(() => worker[Symbol.asyncDispose]());

  /** DNS names of the certificate that a server shows, undefined where it shows none. */
  function namesOf(server: number): Promise<string | undefined> {
    return new Promise((resolve) => {
      const socket = connect({ host: "127.0.0.1", port, servername: `server-${server}.test`, rejectUnauthorized: false }, () => {
        resolve(socket.getPeerCertificate().subjectaltname);
        socket.destroy();
      });
      socket.on("error", () => resolve(undefined));
      socket.on("close", () => resolve(undefined));
    });
  }

  it("cost OpenSSL's memory for those alone that are shown, once", async () => {
    const { contexts } = worker.tlsSessions;
    expect(contexts.made).toBe(0);
    for (let round = 0; round < 3; round++) {
      for (const server of [1, 2, 3]) expect(await namesOf(server)).toBe("DNS:*.test");
    }
    expect(contexts.made).toBe(3);
  });

  it("are made anew when they change, and only then", async () => {
    const { contexts } = worker.tlsSessions;
    await namesOf(5);
    await namesOf(6);
    const { made, size } = contexts;
    await update({ secrets: [{ name: "secret-6", bytes: secretBytes("secret-6", identities.new) }] });
    expect(await namesOf(5)).toBe("DNS:*.test");
    expect(await namesOf(6)).toBe("DNS:*.test, DNS:new");
    expect([contexts.made, contexts.size]).toEqual([made + 1, size]);
  });

  it("are forgotten with their secret", async () => {
    expect(await namesOf(7)).toBe("DNS:*.test");
    await update({ removedSecrets: ["secret-7"] });
    expect(await namesOf(7)).toBeUndefined();
  });
});

describe("SecureContexts", () => {
  it("lets go of what was not used for longest when there are too many", () => {
    const contexts = new SecureContexts(2);
    const owners = [0, 1, 2].map(() => ({ context: null }));
    const use = (index: number) => contexts.use(owners[index]!, () => ({ context: {} }) as never);
    use(0);
    use(1);
    use(0);
    use(2);
    expect(owners.map(({ context }) => context !== null)).toEqual([true, false, true]);
    use(1);
    expect(contexts).toMatchObject({ made: 4, size: 2 });
  });
});

describe("SecretStore", () => {
  it("copies no key out of the memory that the workers share", () => {
    const bytes = secretBytes("server");
    const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
    shared.set(bytes);
    const store = new SecretStore();
    store.set("server", shared);
    const secret = store.get("server");
    if (secret?.kind !== "certificate") throw new Error("no certificate");
    expect(secret.privateKey.toString()).toBe(identities.old.key);
    expect([secret.privateKey.buffer, secret.chain.buffer]).toEqual([shared.buffer, shared.buffer]);
    expect(store.get("server")).toBe(secret);
  });
});
