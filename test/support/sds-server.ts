/** Secrets over SDS on a Unix socket: `default` and `ROOTCA`, as an agent or SPIRE's serve them, or others by name. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { Server, ServerCredentials, type ServerDuplexStream } from "@grpc/grpc-js";
import type { CertificateValidationContextSchema } from "../../src/api/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { type Secret, SecretSchema } from "../../src/api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { SPIFFECertValidatorConfigSchema } from "../../src/api/gen/envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config_pb.js";
import {
  type DiscoveryRequest,
  DiscoveryRequestSchema,
  type DiscoveryResponse,
  DiscoveryResponseSchema,
} from "../../src/api/gen/envoy/service/discovery/v3/discovery_pb.js";
import { typeUrls } from "../../src/api/type-urls.ts";
import type { Identity } from "./mesh-ca.ts";

export interface TestSdsServer extends AsyncDisposable {
  readonly path: string;
  /** Gives every connected proxy the new secrets. */
  replace(identity: Identity, root: string): void;
}

type Stream = ServerDuplexStream<DiscoveryRequest, DiscoveryResponse>;

const method = {
  path: "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
  requestStream: true,
  responseStream: true,
  requestSerialize: (value: DiscoveryRequest) => Buffer.from(toBinary(DiscoveryRequestSchema, value)),
  requestDeserialize: (bytes: Buffer) => fromBinary(DiscoveryRequestSchema, bytes),
  responseSerialize: (value: DiscoveryResponse) => Buffer.from(toBinary(DiscoveryResponseSchema, value)),
  responseDeserialize: (bytes: Buffer) => fromBinary(DiscoveryResponseSchema, bytes),
};

export interface SdsServerOptions {
  /** Where to listen; its directory is made. */
  readonly path?: string;
  /** What the certificate is called, beside `default`. */
  readonly name?: string;
  /** Says whom to trust by Envoy's SPIFFE validator, as SPIRE's agent does: the roots of this trust domain. */
  readonly trustDomain?: string;
}

export async function startSdsServer(identity: Identity, root: string, options: SdsServerOptions = {}): Promise<TestSdsServer> {
  const directory = options.path === undefined ? mkdtempSync(join(tmpdir(), "topsail-sds-")) : undefined;
  const path = options.path ?? join(directory!, "socket");
  mkdirSync(dirname(path), { recursive: true });
  const names = ["default", ...(options.name === undefined ? [] : [options.name])];
  const watches = new Map<Stream, readonly string[]>();
  const validationOf = (ca: string) =>
    options.trustDomain === undefined ? { trustedCa: inline(ca) } : spiffeValidation(options.trustDomain, ca);
  let secrets = secretsOf(names, identity, validationOf(root));
  let version = 1;
  const send = (stream: Stream) => {
    const resources = (watches.get(stream) ?? []).flatMap((name) => {
      const secret = secrets.get(name);
      return secret ? [create(AnySchema, { typeUrl: typeUrls.sds, value: toBinary(SecretSchema, secret) })] : [];
    });
    stream.write(create(DiscoveryResponseSchema, { typeUrl: typeUrls.sds, versionInfo: `${version}`, nonce: `${version}`, resources }));
  };
  const server = new Server();
  server.addService(
    { StreamSecrets: method },
    {
      StreamSecrets(stream: Stream) {
        stream.on("data", ({ resourceNames }: DiscoveryRequest) => {
          const known = watches.get(stream);
          watches.set(stream, resourceNames);
          // Anything else is an acknowledgement.
          if (known?.join() !== resourceNames.join()) send(stream);
        });
        const gone = () => watches.delete(stream);
        stream.on("cancelled", gone);
        stream.on("error", gone);
        stream.on("end", () => {
          gone();
          stream.end();
        });
      },
    },
  );
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) => (error ? reject(error) : resolve())),
  );
  return {
    path,
    replace(next, nextRoot) {
      secrets = secretsOf(names, next, validationOf(nextRoot));
      version++;
      for (const stream of watches.keys()) send(stream);
    },
    async [Symbol.asyncDispose]() {
      server.forceShutdown();
      if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
    },
  };
}

function inline(value: string) {
  return { specifier: { case: "inlineString" as const, value } };
}

function spiffeValidation(name: string, root: string): MessageInitShape<typeof CertificateValidationContextSchema> {
  const config = create(SPIFFECertValidatorConfigSchema, { trustDomains: [{ name, trustBundle: inline(root) }] });
  const typedConfig = {
    typeUrl: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
    value: toBinary(SPIFFECertValidatorConfigSchema, config),
  };
  return { customValidatorConfig: { name: "envoy.tls.cert_validator.spiffe", typedConfig } };
}

function secretsOf(
  names: readonly string[],
  { certificate, key }: Identity,
  validation: MessageInitShape<typeof CertificateValidationContextSchema>,
): ReadonlyMap<string, Secret> {
  return new Map([
    ...names.map((name) => {
      const value = { certificateChain: inline(certificate), privateKey: inline(key) };
      return [name, create(SecretSchema, { name, type: { case: "tlsCertificate", value } })] as const;
    }),
    ["ROOTCA", create(SecretSchema, { name: "ROOTCA", type: { case: "validationContext", value: validation } })],
  ]);
}
