/** The HTTP status that a gRPC answer stands for where only HTTP is understood: `grpc-status` of its headers, if it is there. */
import { getHeader } from "../http/header-list.ts";
import type { HeaderList } from "../stream-info.ts";

/** By gRPC status; Envoy's `Grpc::Utility::grpcToHttpStatus`. */
const statuses: readonly number[] = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];

export function httpStatusOfGrpc(status: number, headers: HeaderList): number {
  const written = getHeader(headers, "grpc-status");
  if (written === undefined || written === "") return status;
  return /^\d{1,2}$/.test(written) ? (statuses[Number(written)] ?? 500) : 500;
}
