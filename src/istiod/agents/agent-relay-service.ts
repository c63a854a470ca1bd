/** `topsail.agent.v1.AgentRelay`: takes the streams of agents. An agent is who its certificate or token says, as on its xDS stream. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type ServerDuplexStream, type ServiceDefinition, status } from "@grpc/grpc-js";
import { type AuthenticateStream, StreamRefused } from "../../ads/server.ts";
import { type AdminRequest, AdminRequestSchema, type FromAgent, FromAgentSchema } from "../../api/gen/topsail/agent/v1/relay_pb.js";
import type { SpiffeId } from "../../api/spiffe.ts";
import { log } from "../../lib/log.ts";
import { admitNode } from "../admit-node.ts";
import type { GrpcService } from "../grpc-server.ts";
import { AgentRelay } from "./agent-relay.ts";
import type { AgentRelays } from "./agent-relays.ts";
import { podNameOf } from "./pod-name.ts";

const scope = log.scope("relay");

type Stream = ServerDuplexStream<FromAgent, AdminRequest>;

export const agentRelayDefinition: ServiceDefinition = {
  Serve: {
    path: "/topsail.agent.v1.AgentRelay/Serve",
    requestStream: true,
    responseStream: true,
    requestSerialize: (value: FromAgent) => Buffer.from(toBinary(FromAgentSchema, value)),
    requestDeserialize: (bytes: Buffer) => fromBinary(FromAgentSchema, bytes),
    responseSerialize: (value: AdminRequest) => Buffer.from(toBinary(AdminRequestSchema, value)),
    responseDeserialize: (bytes: Buffer) => fromBinary(AdminRequestSchema, bytes),
  },
};

export function agentRelayService(relays: AgentRelays, authenticate: AuthenticateStream): GrpcService {
  return {
    definition: agentRelayDefinition,
    implementation: {
      Serve: (stream: Stream) => {
        stream.on("error", () => {});
        // Nothing of a stream is read before it is known who calls.
        authenticate(stream as ServerDuplexStream<unknown, unknown>).then(
          (identities) => serve(stream, identities, relays),
          (error: unknown) => refuse(stream, error),
        );
      },
    },
  };
}

function serve(stream: Stream, identities: readonly SpiffeId[], relays: AgentRelays): void {
  let relay: AgentRelay | undefined;
  let registered: Disposable | undefined;
  const end = () => {
    registered?.[Symbol.dispose]();
    registered = undefined;
    stream.end();
  };
  stream.on("data", ({ message }: FromAgent) => {
    try {
      if (message.case === "response" && relay) relay.onResponse(message.value);
      else if (message.case === "hello" && !relay) {
        const proxy = admitNode(message.value.node, { address: stream.getPeer(), identities });
        const pod = podNameOf(proxy);
        if (!pod) throw new StreamRefused(status.INVALID_ARGUMENT, `${JSON.stringify(proxy.id)} is no name of a pod`);
        relay = new AgentRelay({ send: (request) => void stream.write(request) });
        registered = relays.add(pod, relay);
        scope.debug("agent can be asked", { proxy: proxy.id });
      } else throw new StreamRefused(status.INVALID_ARGUMENT, "a stream begins with one hello");
    } catch (error) {
      // Which also ends it, and takes the pod away.
      refuse(stream, error);
    }
  });
  stream.on("end", end);
  stream.on("cancelled", end);
  stream.on("error", end);
}

function refuse(stream: Stream, error: unknown): void {
  const refusal = error instanceof StreamRefused ? error : new StreamRefused(status.INTERNAL, "internal error");
  if (!(error instanceof StreamRefused)) scope.error("relay failed", { error: error instanceof Error ? error.stack : error });
  stream.emit("error", { code: refusal.code, details: refusal.message });
}
