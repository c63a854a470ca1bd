/** Envoy's validator of SPIFFE identities with several trust domains: each domain's roots sign for its own peers. Envoy and our proxy on the same file. */
import { connect } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { envoyBinary, envoyValidates } from "../support/envoy.ts";
import { type Identity, makeMeshCa } from "../support/mesh-ca.ts";
import type { RunningProxy } from "../support/proxies.ts";
import { address, answeringFilters, proxies, type } from "../support/static-bootstrap.ts";
import { comparableReason, ourVerdict } from "../support/verdict.ts";

const east = makeMeshCa("authority");
/** Of the same name: only the key tells them apart. */
const west = makeMeshCa("authority");
const stranger = makeMeshCa("stranger");
const server = stranger.issueFor("DNS:server.test");

interface TrustDomain {
  readonly name: string;
  readonly trust_bundle?: { readonly inline_string: string };
}

const domain = (name: string, root: string): TrustDomain => ({ name, trust_bundle: { inline_string: root } });

function bootstrap(trustDomains: readonly TrustDomain[]): object {
  const validator = { "@type": type("transport_sockets.tls.v3.SPIFFECertValidatorConfig"), trust_domains: trustDomains };
  const chain = {
    filters: answeringFilters("domains"),
    transport_socket: {
      name: "envoy.transport_sockets.tls",
      typed_config: {
        "@type": type("transport_sockets.tls.v3.DownstreamTlsContext"),
        require_client_certificate: true,
        common_tls_context: {
          tls_certificates: [{ certificate_chain: { inline_string: server.certificate }, private_key: { inline_string: server.key } }],
          validation_context: { custom_validator_config: { name: "envoy.tls.cert_validator.spiffe", typed_config: validator } },
        },
      },
    },
  };
  return {
    node: { id: "domains", cluster: "domains" },
    admin: { address: address(0) },
    static_resources: { listeners: [{ name: "tls", address: address(0), filter_chains: [chain] }] },
  };
}

const clients: Record<string, { readonly identity: Identity | undefined; readonly outcome: "in" | "refused"; readonly envoy?: "in" }> = {
  "of the first domain": { identity: east.issue("spiffe://east/ns/a/sa/b"), outcome: "in" },
  "of the second domain": { identity: west.issue("spiffe://west/ns/a/sa/b"), outcome: "in" },
  "of the first, by an intermediate": { identity: east.intermediate("below").issue("spiffe://east/ns/a/sa/b"), outcome: "in" },
  "that the other domain's root has signed for": { identity: west.issue("spiffe://east/ns/a/sa/b"), outcome: "refused" },
  "that an intermediate of the other domain has signed for": {
    identity: west.intermediate("below").issue("spiffe://east/ns/a/sa/b"),
    outcome: "refused",
  },
  "of a domain that is not listed": { identity: east.issue("spiffe://north/ns/a/sa/b"), outcome: "refused" },
  "of a domain that begins like one": { identity: east.issue("spiffe://east.evil/ns/a/sa/b"), outcome: "refused" },
  "that nobody has signed for": { identity: stranger.issue("spiffe://east/ns/a/sa/b"), outcome: "refused" },
  // X509-SVID, 2: "MUST contain exactly one URI SAN". Envoy takes the first whose domain it knows.
  "with two identities": { identity: east.issueFor("URI:spiffe://east/a,URI:spiffe://west/b"), outcome: "refused", envoy: "in" },
  "with a name and no identity": { identity: east.issueFor("DNS:a.test"), outcome: "refused" },
  "that may sign itself": { identity: east.intermediate("below").signing, outcome: "refused" },
  "without a certificate": { identity: undefined, outcome: "refused" },
};

function ask(port: number, identity: Identity | undefined): Promise<string> {
  return new Promise((resolve) => {
    const own = identity && { cert: identity.certificate, key: identity.key };
    const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false, ...own });
    let text = "";
    socket.setEncoding("latin1").on("data", (part: string) => {
      text += part;
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(/^HTTP\/1\.1 200/.test(text) ? "in" : "refused"));
    socket.write("GET / HTTP/1.1\r\nhost: server.test\r\nconnection: close\r\n\r\n");
  });
}

describe.skipIf(!envoyBinary)("SPIFFE trust domains", () => {
  const stack = new AsyncDisposableStack();
  const running = new Map<string, RunningProxy>();

  beforeAll(async () => {
    const both = bootstrap([domain("east", east.root), domain("west", west.root)]);
    await Promise.all(proxies.map(async ({ name, start }) => running.set(name, stack.use(await start(both)))));
  }, 60_000);
  afterAll(() => stack.disposeAsync());

  describe.each(proxies.map(({ name }) => name))("of %s", (side) => {
    it.each(Object.keys(clients))("judge a client %s", async (name) => {
      const { identity, outcome, envoy = outcome } = clients[name]!;
      expect(await ask(await running.get(side)!.listenerPort("tls"), identity)).toBe(side === "envoy" ? envoy : outcome);
    });
  });

  it.each([
    ["one twice", [domain("east", east.root), domain("east", west.root)]],
    ["one without a bundle", [{ name: "east" }]],
    ["a bundle that is none", [domain("east", "nonsense")]],
  ])("are refused by both proxies: %s", (_, domains) => {
    const yaml = JSON.stringify(bootstrap(domains));
    const theirs = comparableReason(envoyValidates(yaml));
    expect(theirs).toBeTypeOf("string");
    expect(comparableReason(ourVerdict(yaml))).toEqual(theirs);
  });
});
