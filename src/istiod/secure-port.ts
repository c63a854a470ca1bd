/** The port that agents use: xDS and the certificate authority over TLS, every caller authenticated. Istio's 15012. */
import type { KeyObject } from "node:crypto";
import { join } from "node:path";
import { experimental, status } from "@grpc/grpc-js";
import { adsService, StreamRefused } from "../ads/server.ts";
import type { WritableConfigStore } from "../config/store.ts";
import { log } from "../lib/log.ts";
import { agentRelayService } from "./agents/agent-relay-service.ts";
import { AgentRelays } from "./agents/agent-relays.ts";
import { Authenticator, Unauthenticated } from "./ca/authenticator.ts";
import { BundleEndpoints, type BundleEndpointsOptions } from "./ca/bundle-endpoints.ts";
import type { CertificateAuthority } from "./ca/certificate-authority.ts";
import { certificateService } from "./ca/certificate-service.ts";
import { openAuthority } from "./ca/open-authority.ts";
import { Revocations } from "./ca/revocations.ts";
import { ServerIdentity } from "./ca/server-identity.ts";
import { type Account, loadTokenKey, readTokenKey, ServiceAccountTokens } from "./ca/service-account-tokens.ts";
import { sharedTokenKey } from "./ca/stored-root.ts";
import { type ForeignBundles, TrustBundle } from "./ca/trust-bundle.ts";
import type { DiscoveryServer } from "./discovery-server.ts";
import { GrpcServer } from "./grpc-server.ts";
import { Invitations } from "./onboarding/invitations.ts";
import { onboardingService } from "./onboarding/onboarding-service.ts";

const scope = log.scope("ca");

/** Names that Istio's agents and installations call it by. */
const usualNames = ["istiod", "istiod-remote", "istio-pilot"].flatMap((name) => [
  `${name}.istio-system.svc`,
  `${name}.istio-system.svc.cluster.local`,
]);
const loopbackNames = ["localhost", "127.0.0.1"];
/** A machine needs its first token only until it has a certificate. */
const machineTokenSeconds = 3600;

export interface SecurePortOptions {
  readonly host: string;
  readonly port: number;
  readonly discovery: DiscoveryServer;
  readonly dataDir: string | undefined;
  readonly authorityDir: string | undefined;
  readonly serverNames: readonly string[];
  /** Of other trust domains, by which callers are judged as well. */
  readonly foreignBundles?: ForeignBundles | undefined;
  /** How bundles are fetched. */
  readonly bundles?: Omit<BundleEndpointsOptions, "cacheFile"> | undefined;
  /** Where invitations of machines are kept. */
  readonly store: WritableConfigStore;
}

export class SecurePort implements AsyncDisposable {
  readonly port: number;
  readonly authority: CertificateAuthority;
  readonly tokens: ServiceAccountTokens;
  readonly identity: ServerIdentity;
  /** By which connected agents' proxies can be asked. */
  readonly relays: AgentRelays;
  readonly #parts: AsyncDisposableStack;

  private constructor(
    port: number,
    authority: CertificateAuthority,
    tokens: ServiceAccountTokens,
    identity: ServerIdentity,
    relays: AgentRelays,
    parts: AsyncDisposableStack,
  ) {
    this.port = port;
    this.authority = authority;
    this.tokens = tokens;
    this.identity = identity;
    this.relays = relays;
    this.#parts = parts;
  }

  static async start(options: SecurePortOptions): Promise<SecurePort> {
    const { host, port, discovery, dataDir, authorityDir, serverNames, store } = options;
    await using parts = new AsyncDisposableStack();
    const { metrics } = discovery;
    const { trustDomain } = discovery.mesh;
    const shared = store.isShared ? store : undefined;
    const { authority, origin } = parts.use(await openAuthority({ directory: authorityDir, store, shared, dataDir, trustDomain }));
    const cacheFile = dataDir && join(dataDir, "trust-bundles.json");
    const endpoints = parts.use(await BundleEndpoints.start({ ...options.bundles, cacheFile }));
    const trust = parts.use(new TrustBundle({ authority, endpoints, foreign: options.foreignBundles ?? new Map() }, discovery.mesh));
    parts.use(discovery.onMesh((mesh) => trust.setMesh(mesh)));
    const identity = parts.use(await ServerIdentity.start(authority, trust, [...usualNames, ...loopbackNames, ...serverNames]));
    const tokens = new ServiceAccountTokens(await tokenKey(options), (account) => uidOf(discovery, account));
    const authenticator = new Authenticator(tokens, parts.use(new Revocations(authority)), trust);
    // By which a new machine knows this port.
    const roots = () => authority.trustBundle;
    const invitations = new Invitations({
      store,
      systemNamespace: discovery.mesh.rootNamespace,
      roots,
      issueToken: async (account) => (await tokens.issue(account, ["istio-ca"], machineTokenSeconds)).token,
    });
    const relays = new AgentRelays();
    const grpc = parts.use(
      await GrpcServer.start({
        host,
        port,
        newcomers: discovery.newcomers,
        // A client certificate is asked for and may be missing: a first start has a token only.
        credentials: experimental.createCertificateProviderServerCredentials(identity, identity, false),
        services: [
          adsService(discovery, (call) => authenticator.authenticate(call).catch(refuse)),
          certificateService({
            authority,
            authenticator,
            roots: () => trust.roots,
            onOutcome: (outcome) => metrics.onCertificate(outcome),
          }),
          onboardingService({ invitations, roots }),
          agentRelayService(relays, (call) => authenticator.authenticate(call).catch(refuse)),
        ],
      }),
    );
    const tellRoots = () => {
      metrics.rootExpires(authority);
      discovery.setTrust({ roots: trust.roots, revocations: authority.crl });
    };
    tellRoots();
    parts.use(trust.onChange(tellRoots));
    scope.info("certificate authority", { origin });
    return new SecurePort(grpc.port, authority, tokens, identity, relays, parts.move());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync();
  }
}

/** Tokens of one control plane are good for all that have the same key. */
async function tokenKey({ authorityDir, dataDir, store }: SecurePortOptions): Promise<KeyObject> {
  const brought = authorityDir && (await readTokenKey(authorityDir));
  return brought || (await sharedTokenKey(store)) || loadTokenKey(dataDir);
}

function refuse(error: unknown): never {
  if (error instanceof Unauthenticated) {
    scope.warn("stream refused", { reason: error.message });
    throw new StreamRefused(status.UNAUTHENTICATED, "authentication failure");
  }
  throw error;
}

/** Every namespace has an account `default`, whether anybody wrote it down or not. */
function uidOf({ store }: DiscoveryServer, { namespace, serviceAccount }: Account): string | undefined {
  const written = store.get({ kind: "ServiceAccount", namespace, name: serviceAccount });
  return written?.metadata.uid ?? (serviceAccount === "default" ? `default.${namespace}` : undefined);
}
