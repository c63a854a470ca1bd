/** OCSP responses stapled to certificates: which ones, for whom, and what becomes of a server without. Envoy and our proxy on the same file. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary, envoyValidates } from "../support/envoy.ts";
import { type Identity, makeMeshCa } from "../support/mesh-ca.ts";
import { eventually, type RunningProxy } from "../support/proxies.ts";
import { address, answeringFilters, proxies, type } from "../support/static-bootstrap.ts";
import { TlsClient } from "../support/tls-client.ts";
import { comparableReason, ourVerdict } from "../support/verdict.ts";

const ca = makeMeshCa("ocsp");
const plain = ca.issueFor("DNS:*.test");
const rsa = ca.issueFor("DNS:*.test", { algorithm: "rsa" });
const strict = ca.issueFor("DNS:*.test", { mustStaple: true });
const good = ca.ocspResponse(plain);
/** The same with its end long ago; nobody of ours checks the signature. */
const expired = replaceLast(good, /\d{14}Z/g, "20200101000000Z");

function replaceLast(der: Buffer, pattern: RegExp, text: string): Buffer {
  const latin1 = der.toString("latin1");
  const times = [...latin1.matchAll(pattern)];
  // producedAt, thisUpdate, nextUpdate: certificates that follow have other times.
  const at = times[2]!.index;
  return Buffer.from(latin1.slice(0, at) + text + latin1.slice(at + text.length), "latin1");
}

interface Served {
  readonly identity: Identity;
  readonly staple?: Buffer | undefined;
}

interface Chain {
  readonly certificates: readonly Served[];
  readonly policy?: "LENIENT_STAPLING" | "STRICT_STAPLING" | "MUST_STAPLE";
}

function chainConfig({ certificates, policy }: Chain, serverName?: string): object {
  return {
    ...(serverName && { filter_chain_match: { server_names: [serverName] } }),
    filters: answeringFilters("ocsp", { delayed_close_timeout: "0s" }),
    transport_socket: {
      name: "envoy.transport_sockets.tls",
      typed_config: {
        "@type": type("transport_sockets.tls.v3.DownstreamTlsContext"),
        ...(policy && { ocsp_staple_policy: policy }),
        common_tls_context: {
          tls_certificates: certificates.map(({ identity, staple }) => ({
            certificate_chain: { inline_string: identity.certificate },
            private_key: { inline_string: identity.key },
            ...(staple && { ocsp_staple: { inline_bytes: staple.toString("base64") } }),
          })),
        },
      },
    },
  };
}

function bootstrap(chains: readonly object[]): object {
  const inspector = { "@type": type("filters.listener.tls_inspector.v3.TlsInspector") };
  const listener_filters = [{ name: "envoy.filters.listener.tls_inspector", typed_config: inspector }];
  return {
    node: { id: "ocsp", cluster: "ocsp" },
    admin: { address: address(0) },
    static_resources: { listeners: [{ name: "tls", address: address(0), listener_filters, filter_chains: chains }] },
  };
}

const one = (identity: Identity, staple?: Buffer) => [{ identity, staple }];

/** By host: what is served, and what a client that asks for a response, and one that does not, get of it. */
const servers: Record<string, Chain & { readonly asks: "stapled" | "plain" | "refused"; readonly silent: "plain" | "refused" }> = {
  "lenient-good": { certificates: one(plain, good), asks: "stapled", silent: "plain" },
  "lenient-expired": { certificates: one(plain, expired), asks: "plain", silent: "plain" },
  "lenient-none": { certificates: one(plain), asks: "plain", silent: "plain" },
  "strict-good": { certificates: one(plain, good), policy: "STRICT_STAPLING", asks: "stapled", silent: "plain" },
  "strict-expired": { certificates: one(plain, expired), policy: "STRICT_STAPLING", asks: "refused", silent: "plain" },
  "strict-none": { certificates: one(plain), policy: "STRICT_STAPLING", asks: "plain", silent: "plain" },
  "must-good": { certificates: one(plain, good), policy: "MUST_STAPLE", asks: "stapled", silent: "plain" },
  "must-expired": { certificates: one(plain, expired), policy: "MUST_STAPLE", asks: "refused", silent: "plain" },
  "feature-good": { certificates: one(strict, ca.ocspResponse(strict)), asks: "stapled", silent: "plain" },
  // The certificate whose response is over is passed over for another of the same names.
  "strict-other": {
    certificates: [
      { identity: plain, staple: expired },
      { identity: rsa, staple: ca.ocspResponse(rsa) },
    ],
    policy: "STRICT_STAPLING",
    asks: "stapled",
    silent: "plain",
  },
};

const der = (hex: string) => Buffer.from(hex.replaceAll(" ", ""), "hex");

/** What no proxy takes. */
const refused: Record<string, Chain> = {
  "a response of another certificate": { certificates: one(plain, ca.ocspResponse(rsa)) },
  "a response of two certificates": { certificates: one(plain, ca.ocspResponse(plain, rsa)) },
  "no response at all": { certificates: one(plain, Buffer.from("nonsense")) },
  "something behind the response": { certificates: one(plain, Buffer.concat([good, good])) },
  "a response that says: try later": { certificates: one(plain, der("30 03 0a 01 03")) },
  "a response without a body": { certificates: one(plain, der("30 03 0a 01 00")) },
  "a certificate that has to have one, without": { certificates: one(strict) },
  "a policy that wants one, without": { certificates: one(plain), policy: "MUST_STAPLE" },
};

describe.skipIf(!envoyBinary)("OCSP stapling", () => {
  const stack = new AsyncDisposableStack();
  const client = stack.use(new TlsClient());
  const running = new Map<string, RunningProxy>();

  beforeAll(async () => {
    const chains = Object.entries(servers).map(([name, chain]) => chainConfig(chain, `${name}.test`));
    await Promise.all(proxies.map(async ({ name, start }) => running.set(name, stack.use(await start(bootstrap(chains))))));
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  describe.each(proxies.map(({ name }) => name))("of %s", (side) => {
    async function ask(server: string, options: readonly string[]): Promise<string> {
      const port = await running.get(side)!.listenerPort("tls");
      const { text, status } = await client.ask({ port, serverName: `${server}.test`, options });
      if (status === undefined) return "refused";
      return text.includes("OCSP Response Status: successful") ? "stapled" : "plain";
    }

    it.each(Object.keys(servers))("%s gives a client what its policy says", async (server) => {
      const { asks, silent } = servers[server]!;
      for (const version of ["-tls1_2", "-tls1_3"]) {
        expect([await ask(server, ["-status", version]), await ask(server, [version])]).toEqual([asks, silent]);
      }
    });

    it("counts what was asked for and given", async () => {
      const proxy = running.get(side)!;
      const names = ["requests", "responses", "omitted", "failed"];
      const counts = async () => {
        const stats = await proxy.admin("/stats?filter=ssl.ocsp_staple");
        return names.map((name) => Number(new RegExp(`ocsp_staple_${name}: (\\d+)`).exec(stats)?.[1]));
      };
      const before = await counts();
      for (const server of ["lenient-good", "lenient-expired", "strict-expired", "lenient-none"]) await ask(server, ["-status"]);
      await eventually(async () => {
        const after = await counts();
        return after.map((count, index) => count - before[index]!).join() === "4,1,2,1" || undefined;
      }, "4 requests, 1 response, 2 omitted, 1 failed");
    });
  });

  it.each(Object.keys(refused))("takes no %s", (name) => {
    const yaml = JSON.stringify(bootstrap([chainConfig(refused[name]!)]));
    const theirs = comparableReason(envoyValidates(yaml));
    expect(theirs).toBeTypeOf("string");
    expect(comparableReason(ourVerdict(yaml))).toEqual(theirs);
  });
});
