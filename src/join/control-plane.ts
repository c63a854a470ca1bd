/**
 * What a machine with a one-time code asks of the control plane. The first call trusts nobody: its answer must carry a proof that only the
 * code's maker could make, and brings the roots by which the second call is verified.
 */
import { isIPv6 } from "node:net";
import { connect } from "node:tls";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type ChannelCredentials, Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import {
  DiscoverRequestSchema,
  DiscoverResponseSchema,
  JoinRequestSchema,
  JoinResponseSchema,
} from "../api/gen/topsail/onboarding/v1/onboarding_pb.js";
import { type InvitationCode, isEqual, macKeyOf, macOfRoots, proofOf } from "../api/machine/invitation.ts";
import { ownChannel } from "../lib/grpc-channel.ts";
import { formatHostPort, type HostPort, parseHostPort } from "../lib/host-port.ts";
import { JoinError } from "./join-error.ts";

export interface Discovered {
  /** PEM. */
  readonly roots: string;
  /** `namespace/name` */
  readonly group: string;
}

const service = "/topsail.onboarding.v1.Onboarding";
/** By this name agents know the control plane, whatever address they call. */
const serverName = "istiod.istio-system.svc";
const defaultPort = 15012;
const timeoutMs = 15_000;
const reachTimeoutMs = 5000;

/** HOST or HOST:PORT, as people write IPv6 addresses: with brackets or without. Throws HostPortError. */
export function parseControlPlane(address: string): HostPort {
  const bare = isIPv6(address) ? `[${address}]` : address;
  const hasPort = bare.startsWith("[") ? !bare.endsWith("]") : bare.includes(":");
  return parseHostPort(hasPort ? bare : `${bare}:${defaultPort}`, "ADDRESS", "connect");
}

export async function discover(address: HostPort, code: InvitationCode): Promise<Discovered> {
  await reach(address);
  // Who answers is judged by the proof in the answer, and nothing but the code's id is said to it.
  const anybody = credentials.createSsl(null, null, null, { rejectUnauthorized: false, checkServerIdentity: () => undefined });
  const request = Buffer.from(toBinary(DiscoverRequestSchema, create(DiscoverRequestSchema, { id: code.id })));
  const { roots, mac, group } = fromBinary(DiscoverResponseSchema, await call(address, anybody, "Discover", request));
  if (!isEqual(macOfRoots(macKeyOf(code), roots), mac)) {
    throw new JoinError(
      `${formatHostPort(address)} is not the control plane that made this code: its proof is wrong`,
      "somebody may be in between",
    );
  }
  return { roots, group };
}

/** Files by name. Uses the code up. */
export async function redeem(address: HostPort, code: InvitationCode, { roots }: Discovered): Promise<Readonly<Record<string, string>>> {
  const request = Buffer.from(toBinary(JoinRequestSchema, create(JoinRequestSchema, { id: code.id, proof: proofOf(code) })));
  const answer = await call(address, credentials.createSsl(Buffer.from(roots)), "Join", request);
  return fromBinary(JoinResponseSchema, answer).files;
}

async function call(address: HostPort, channel: ChannelCredentials, method: string, request: Buffer): Promise<Buffer> {
  const client = new Client(`dns:${formatHostPort(address)}`, channel, {
    ...ownChannel,
    "grpc.ssl_target_name_override": serverName,
    "grpc.default_authority": serverName,
  });
  const asIs = (bytes: Buffer) => bytes;
  try {
    return await new Promise((resolve, reject) => {
      const options = { deadline: Date.now() + timeoutMs };
      client.makeUnaryRequest(`${service}/${method}`, asIs, asIs, request, new Metadata(), options, (error, value) => {
        if (error || !value) reject(explain(error, address));
        else resolve(value);
      });
    });
  } finally {
    client.close();
  }
}

/** Whether somebody speaks TLS there. gRPC would go on trying, and keep the process, long after it has said that nobody does. */
function reach(address: HostPort): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      host: address.host,
      port: address.port,
      servername: serverName,
      rejectUnauthorized: false,
      ALPNProtocols: ["h2"],
    });
    const failed = (reason: string) => {
      socket.destroy();
      reject(unreachable(address, reason));
    };
    socket.setTimeout(reachTimeoutMs, () => failed(`no answer within ${reachTimeoutMs / 1000} s`));
    socket.once("error", (error) => failed(error.message));
    socket.once("secureConnect", () => {
      socket.destroy();
      resolve();
    });
  });
}

function unreachable(address: HostPort, reason: string): JoinError {
  return new JoinError(
    `${formatHostPort(address)} can't be called: ${reason}`,
    "is port 15012 of the control plane, or of its east-west gateway, open?",
  );
}

function explain(error: ServiceError | null, address: HostPort): JoinError {
  const where = formatHostPort(address);
  switch (error?.code) {
    case status.PERMISSION_DENIED:
      return new JoinError(`${where}: ${error.details}`, "make a new one with: istioctl x workload invite GROUP");
    case status.UNIMPLEMENTED:
      return new JoinError(`${where} is no control plane of Topsail, or an older one`);
    default:
      return unreachable(address, error?.details ?? "no answer");
  }
}
