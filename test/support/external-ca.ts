/** An authority outside of the control plane that speaks Istio's protocol, as istio-csr does. It takes the control plane's tokens. */
import { ServerCredentials } from "@grpc/grpc-js";
import { Authenticator, type Call } from "../../src/istiod/ca/authenticator.ts";
import { CertificateAuthority } from "../../src/istiod/ca/certificate-authority.ts";
import { certificateService } from "../../src/istiod/ca/certificate-service.ts";
import { Revocations } from "../../src/istiod/ca/revocations.ts";
import { loadSelfSigned } from "../../src/istiod/ca/self-signed.ts";
import type { ServiceAccountTokens } from "../../src/istiod/ca/service-account-tokens.ts";
import { GrpcServer } from "../../src/istiod/grpc-server.ts";
import { makeMeshCa } from "./mesh-ca.ts";

export interface ExternalCa extends AsyncDisposable {
  readonly port: number;
  /** PEM of what signs. */
  readonly root: string;
  /** PEM of the CA of the server's own certificate, which is another. */
  readonly serverCa: string;
  /** Headers of the calls so far. */
  readonly headers: Record<string, unknown>[];
}

export async function startExternalCa(tokens: ServiceAccountTokens): Promise<ExternalCa> {
  const authority = new CertificateAuthority(await loadSelfSigned(undefined, "external"));
  const web = makeMeshCa("web");
  const { certificate, key } = web.issueFor("IP:127.0.0.1");
  const headers: Record<string, unknown>[] = [];
  const known = new Authenticator(tokens, new Revocations(authority), {
    trustDomains: ["cluster.local"],
    rootsFor: () => authority.roots,
  });
  const authenticator = {
    authenticate: (call: Call) => {
      headers.push(call.metadata.getMap());
      return known.authenticate(call);
    },
  } as Authenticator;
  const credentials = ServerCredentials.createSsl(Buffer.from(authority.trustBundle), [
    { cert_chain: Buffer.from(certificate), private_key: Buffer.from(key) },
  ]);
  const server = await GrpcServer.start({
    host: "127.0.0.1",
    port: 0,
    credentials,
    services: [certificateService({ authority, authenticator, roots: () => authority.roots })],
  });
  return {
    port: server.port,
    root: authority.trustBundle,
    serverCa: web.root,
    headers,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
