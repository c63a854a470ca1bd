/** Names of gRPC's status codes, as Istio's configuration spells them; the place in the list is the number. Source: grpc/statuscodes.md. */
export const grpcStatusNames = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

/** -1 for a name that is none. */
export function grpcStatusNumber(name: string): number {
  return (grpcStatusNames as readonly string[]).indexOf(name);
}
