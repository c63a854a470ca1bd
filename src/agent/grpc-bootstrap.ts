/**
 * The file by which gRPC libraries that are their own proxy find the mesh: this agent's socket as their control plane, who they are, and the
 * files of the workload's certificate where these are kept. Source: Istio pkg/istio-agent/grpcxds/grpc_bootstrap.go; gRFC A27, A29, A36.
 */
import { mkdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { writeWhole } from "../lib/write-whole.ts";
import type { NodeIdentity } from "./node.ts";

export interface GrpcBootstrapOptions {
  readonly node: NodeIdentity;
  /** Of the agent, for xDS. */
  readonly socket: string;
  /** OUTPUT_CERTS; undefined: the certificate is kept nowhere, and servers and clients have none of the mesh's. */
  readonly certificates: string | undefined;
}

/** By this metadata a control plane tells a library from an Envoy. */
export const grpcGenerator = "grpc";

/** Replaces the file as a whole; whoever may reach the socket may read it. */
export async function writeGrpcBootstrap(path: string, options: GrpcBootstrapOptions): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writeWhole(path, `${JSON.stringify(grpcBootstrap(options), null, 2)}\n`, 0o644);
}

export function grpcBootstrap({ node, socket, certificates }: GrpcBootstrapOptions): Record<string, unknown> {
  const { region, zone, subZone } = node.locality;
  const certificateFile = (name: string) => join(resolve(certificates ?? "."), name);
  return {
    xds_servers: [{ server_uri: `unix://${resolve(socket)}`, channel_creds: [{ type: "insecure" }], server_features: ["xds_v3"] }],
    node: {
      id: node.id,
      metadata: { ...node.metadata, GENERATOR: grpcGenerator },
      locality: { ...(region ? { region } : {}), ...(zone ? { zone } : {}), ...(subZone ? { sub_zone: subZone } : {}) },
    },
    ...(certificates === undefined
      ? {}
      : {
          certificate_providers: {
            default: {
              plugin_name: "file_watcher",
              config: {
                certificate_file: certificateFile("cert-chain.pem"),
                private_key_file: certificateFile("key.pem"),
                ca_certificate_file: certificateFile("root-cert.pem"),
                refresh_interval: "900s",
              },
            },
          },
        }),
    server_listener_resource_name_template: "xds.istio.io/grpc/lds/inbound/%s",
  };
}
