/** `topsail.onboarding.v1.Onboarding`: a machine with a one-time code gets what it needs to be a workload of its group. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type ServerUnaryCall, type ServiceDefinition, type sendUnaryData, status } from "@grpc/grpc-js";
import {
  type DiscoverRequest,
  DiscoverRequestSchema,
  type DiscoverResponse,
  DiscoverResponseSchema,
  type JoinRequest,
  JoinRequestSchema,
  type JoinResponse,
  JoinResponseSchema,
} from "../../api/gen/topsail/onboarding/v1/onboarding_pb.js";
import { macOfRoots } from "../../api/machine/invitation.ts";
import { log } from "../../lib/log.ts";
import type { GrpcService } from "../grpc-server.ts";
import { InvitationRefused, type Invitations } from "./invitations.ts";

const scope = log.scope("onboarding");

export interface OnboardingOptions {
  readonly invitations: Invitations;
  /** PEM of the roots of the mesh. */
  readonly roots: () => string;
}

const definition: ServiceDefinition = {
  Discover: {
    path: "/topsail.onboarding.v1.Onboarding/Discover",
    requestStream: false,
    responseStream: false,
    requestSerialize: (value: DiscoverRequest) => Buffer.from(toBinary(DiscoverRequestSchema, value)),
    requestDeserialize: (bytes: Buffer) => fromBinary(DiscoverRequestSchema, bytes),
    responseSerialize: (value: DiscoverResponse) => Buffer.from(toBinary(DiscoverResponseSchema, value)),
    responseDeserialize: (bytes: Buffer) => fromBinary(DiscoverResponseSchema, bytes),
  },
  Join: {
    path: "/topsail.onboarding.v1.Onboarding/Join",
    requestStream: false,
    responseStream: false,
    requestSerialize: (value: JoinRequest) => Buffer.from(toBinary(JoinRequestSchema, value)),
    requestDeserialize: (bytes: Buffer) => fromBinary(JoinRequestSchema, bytes),
    responseSerialize: (value: JoinResponse) => Buffer.from(toBinary(JoinResponseSchema, value)),
    responseDeserialize: (bytes: Buffer) => fromBinary(JoinResponseSchema, bytes),
  },
};

export function onboardingService({ invitations, roots }: OnboardingOptions): GrpcService {
  return {
    definition,
    implementation: {
      Discover: (call: ServerUnaryCall<DiscoverRequest, DiscoverResponse>, answer: sendUnaryData<DiscoverResponse>) =>
        respond(call, answer, async () => {
          const { macKey, namespace, group } = invitations.find(call.request.id);
          return create(DiscoverResponseSchema, { roots: roots(), mac: macOfRoots(macKey, roots()), group: `${namespace}/${group}` });
        }),
      Join: (call: ServerUnaryCall<JoinRequest, JoinResponse>, answer: sendUnaryData<JoinResponse>) =>
        respond(call, answer, async () => {
          const files = await invitations.redeem(call.request.id, call.request.proof);
          scope.info("a machine has joined", { peer: call.getPeer(), invitation: call.request.id });
          return create(JoinResponseSchema, { files });
        }),
    },
  };
}

function respond<Request, Response>(
  call: ServerUnaryCall<Request, Response>,
  answer: sendUnaryData<Response>,
  make: () => Promise<Response>,
): void {
  make().then(
    (response) => answer(null, response),
    (error: unknown) => {
      if (error instanceof InvitationRefused) {
        scope.warn("invitation refused", { peer: call.getPeer(), reason: error.message });
        answer({ code: status.PERMISSION_DENIED, details: error.message });
        return;
      }
      scope.error("onboarding failed", { peer: call.getPeer(), error: error instanceof Error ? (error.stack ?? error.message) : error });
      answer({ code: status.INTERNAL, details: error instanceof Error ? error.message : "internal error" });
    },
  );
}
