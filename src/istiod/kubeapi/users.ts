/** Who calls, and what they may do: so far everything or nothing. */
import type { IncomingMessage } from "node:http";
import type { TLSSocket } from "node:tls";
import { type ServiceAccountTokens, TokenError, tokenIssuer } from "../ca/service-account-tokens.ts";
import { ApiError } from "./status.ts";

/** Kubernetes' group of those who may do everything. */
export const adminGroup = "system:masters";
const authenticatedGroup = "system:authenticated";

export interface User {
  readonly name: string;
  readonly groups: readonly string[];
}

const anonymous: User = { name: "system:anonymous", groups: ["system:unauthenticated"] };

/**
 * By the certificate of the connection, if the API's own authority has issued it, else by a token of a service account that was
 * made for the API. A caller who shows something that doesn't hold is refused with 401; who shows nothing is anonymous.
 */
export async function authenticate(request: IncomingMessage, tokens: ServiceAccountTokens): Promise<User> {
  const socket = request.socket as TLSSocket;
  const { authorization } = request.headers;
  const certificate = socket.getPeerCertificate();
  if (certificate?.subject) {
    if (!socket.authorized) throw new ApiError(401, "Unauthorized");
    return userOfSubject(certificate.subject);
  }
  if (authorization === undefined) return anonymous;
  const token = /^Bearer +(?<token>\S+)$/i.exec(authorization)?.groups?.token;
  if (token === undefined) throw new ApiError(401, "Unauthorized");
  try {
    const { namespace, serviceAccount } = await tokens.verify(token, tokenIssuer);
    return {
      name: `system:serviceaccount:${namespace}:${serviceAccount}`,
      groups: ["system:serviceaccounts", `system:serviceaccounts:${namespace}`, authenticatedGroup],
    };
  } catch (error) {
    if (error instanceof TokenError) throw new ApiError(401, "Unauthorized", { cause: error });
    throw error;
  }
}

/** Of a subject's attributes several with one name are a list, at run time. */
function userOfSubject(subject: { readonly CN?: unknown; readonly O?: unknown }): User {
  if (typeof subject.CN !== "string" || subject.CN === "") throw new ApiError(401, "Unauthorized");
  const groups = [subject.O ?? []].flat().map(String);
  return { name: subject.CN, groups: [...groups, authenticatedGroup] };
}

export function isAdmin({ groups }: User): boolean {
  return groups.includes(adminGroup);
}

export function isAuthenticated({ groups }: User): boolean {
  return groups.includes(authenticatedGroup);
}

/** What everybody with a name may read: which resources there are. */
export const openPaths = /^\/(?:api|apis|openapi|version|healthz|readyz|livez)(?:\/|$)/;

export interface Action {
  /** Kubernetes' verb: get, list, watch, create, update, patch, delete, deletecollection. */
  readonly verb: string;
  readonly group: string;
  /** `serviceaccounts/token` */
  readonly resource: string;
  readonly name: string;
  readonly namespace: string;
}

/** Throws ApiError 403. There are no Roles yet: who is no administrator may do nothing with objects. */
export function requireMay(user: User, { verb, group, resource, name, namespace }: Action): void {
  if (isAdmin(user)) return;
  const subject = `${resource}${group ? `.${group}` : ""}${name ? ` ${JSON.stringify(name)}` : ""}`;
  const where = namespace ? `in the namespace ${JSON.stringify(namespace)}` : "at the cluster scope";
  throw new ApiError(
    403,
    `${subject} is forbidden: User ${JSON.stringify(user.name)} cannot ${verb} resource ${JSON.stringify(resource)} in API group ${JSON.stringify(group)} ${where}`,
    { details: { name: name || undefined, group: group || undefined, kind: resource } },
  );
}

export function requireMayPath(user: User, path: string, verb: string): void {
  if (isAuthenticated(user)) return;
  throw new ApiError(403, `forbidden: User ${JSON.stringify(user.name)} cannot ${verb} path ${JSON.stringify(path)}`);
}

/** To act as somebody else is not served; who asks for it must not be taken for themselves. */
export function refuseImpersonation({ headers }: IncomingMessage): void {
  if (Object.keys(headers).some((name) => name.startsWith("impersonate-")))
    throw new ApiError(403, "impersonation is not served by this API");
}
