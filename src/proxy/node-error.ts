/** Node's socket errors in the words that Envoy's logs use; the one place that knows both. */
import { tlsFailureOf } from "./tls/tls-failure.ts";

const systemErrors: Readonly<Record<string, string>> = {
  ECONNREFUSED: "Connection_refused",
  ECONNRESET: "Connection_reset_by_peer",
  ETIMEDOUT: "Connection_timed_out",
  EHOSTUNREACH: "No_route_to_host",
  ENETUNREACH: "Network_is_unreachable",
  EADDRNOTAVAIL: "Cannot_assign_requested_address",
  EADDRINUSE: "Address_already_in_use",
  EACCES: "Permission_denied",
  ENOENT: "No_such_file_or_directory",
  EMFILE: "Too_many_open_files",
  EPIPE: "Broken_pipe",
  EINVAL: "Invalid_argument",
};

/** %UPSTREAM_TRANSPORT_FAILURE_REASON% of a connection that did not come up. */
export function connectFailure(error: NodeJS.ErrnoException): string {
  const { code } = error;
  const reason = (error as { reason?: string }).reason;
  if (code?.startsWith("ERR_SSL") || reason !== undefined) {
    return tlsFailureOf(error);
  }
  if (code !== undefined && systemErrors[code] !== undefined) return `delayed_connect_error:_${systemErrors[code]}`;
  return `delayed_connect_error:_${(code ?? error.message).replaceAll(" ", "_")}`;
}

/** `Address already in use` and the like, for log lines about listeners. */
export function bindFailure(error: NodeJS.ErrnoException): string {
  return (systemErrors[error.code ?? ""] ?? error.message).replaceAll("_", " ");
}
