/** The paths behind which the API passes requests on: `/api/v1/namespaces/NS/pods/NAME:PORT/proxy/PATH`, and the same for Services. */
import { ApiError } from "../status.ts";

export interface ProxyPath {
  readonly resource: "pods" | "services";
  readonly namespace: string;
  readonly name: string;
  /** As it was written: a number, or a Service's name for one; "" for none. */
  readonly port: string;
  /** From its slash on, without a query. */
  readonly path: string;
}

const pattern = /^\/api\/v1\/namespaces\/(?<namespace>[^/]+)\/(?<resource>pods|services)\/(?<target>[^/]+)\/proxy(?<path>\/.*)?$/;
/** `http:name:port`, of which the name alone has to be there. */
const targetPattern = /^(?:(?<scheme>https?):)?(?<name>[^:]+)(?::(?<port>[^:]*))?$/;

/** Undefined for any other path. Throws ApiError for a target that can't be served. */
export function parseProxyPath(path: string): ProxyPath | undefined {
  const found = pattern.exec(path)?.groups;
  if (!found) return undefined;
  const target = targetPattern.exec(decoded(found.target!))?.groups;
  if (!target?.name) throw new ApiError(400, `invalid target of a proxied request: ${JSON.stringify(found.target)}`);
  if (target.scheme === "https") throw new ApiError(400, "proxied requests are passed on over http alone");
  return {
    resource: found.resource as ProxyPath["resource"],
    namespace: decoded(found.namespace!),
    name: target.name,
    port: target.port ?? "",
    path: found.path ?? "/",
  };
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw new ApiError(400, `${JSON.stringify(segment)} can't be decoded`);
  }
}
