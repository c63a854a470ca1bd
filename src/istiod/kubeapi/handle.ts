/** From a request to the verb that it asks for, and to the answer. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { revision, version } from "../../lib/version.ts";
import { requireNamespace } from "./admission/namespaces.ts";
import type { Answer, ApiContext, ApiRequest } from "./context.ts";
import { type Document, discoveryDocument } from "./discovery.ts";
import { openApiDocument } from "./openapi/openapi-documents.ts";
import { parseProxyPath } from "./proxy/proxy-path.ts";
import { proxyRequest } from "./proxy/proxy-request.ts";
import { readBody } from "./request-body.ts";
import { type ObjectPath, parseObjectPath } from "./request-path.ts";
import { answerReview, findReview } from "./reviews.ts";
import { ApiError, pathNotFound } from "./status.ts";
import { requestToken } from "./token-request.ts";
import { isAuthenticated, openPaths, requireMay, requireMayPath, type User } from "./users.ts";
import { createObject } from "./verbs/create.ts";
import { deleteCollection, deleteObject } from "./verbs/delete.ts";
import { patchObject } from "./verbs/patch.ts";
import { listObjects, readObject } from "./verbs/read.ts";
import { updateObject } from "./verbs/update.ts";
import { watchObjects } from "./verbs/watch.ts";
import type { WatchLimit } from "./watch-limit.ts";

const versionInfo = {
  major: "1",
  minor: "34",
  gitVersion: `v1.34.0+topsail-${version}`,
  gitCommit: revision,
  gitTreeState: "clean",
  platform: `linux/${process.arch === "x64" ? "amd64" : process.arch}`,
};

export interface Handling {
  readonly context: ApiContext;
  readonly user: User;
  readonly watches: WatchLimit;
}

/** What is not an object: discovery, versions, health. Undefined when the path is one of objects, or nobody's. */
export function staticAnswer(method: string, path: string, accept: string | undefined, user: User): Document | Answer | undefined {
  if (method !== "GET" && method !== "HEAD") return undefined;
  // Load balancers and version probes have no name.
  if (path === "/version" || path === "/version/") return { code: 200, body: versionInfo };
  if (path === "/healthz" || path === "/livez" || path === "/readyz")
    return { contentType: "text/plain; charset=utf-8", content: Buffer.from("ok"), etag: "" };
  const document = openPaths.test(path) ? (discoveryDocument(path, accept) ?? openApiDocument(path)) : undefined;
  if (document) requireMayPath(user, path, "get");
  return document;
}

/** Undefined: the answer is being written, as a watch is. Throws ApiError. */
export async function handleRequest(
  { context, user, watches }: Handling,
  path: string,
  request: ApiRequest,
  message: IncomingMessage,
  response: ServerResponse,
): Promise<Answer | undefined> {
  const { method } = request;
  if (path === "/openid/v1/jwks" && method === "GET") return { code: 200, body: await context.tokens.jwks() };
  const review = findReview(path);
  if (review) {
    if (!isAuthenticated(user)) requireMayPath(user, path, "post");
    if (method !== "POST") throw methodNotAllowed();
    return { code: 201, body: answerReview(review.apiVersion, review.review, user, (await readBody(message)).value) };
  }
  const proxied = parseProxyPath(path);
  if (proxied) {
    await proxyRequest(context, proxied, request, message, response);
    return undefined;
  }
  const target = parseObjectPath(path);
  if (!target) {
    requireMayPath(user, path, method.toLowerCase());
    throw new ApiError(404, pathNotFound);
  }
  const verb = verbOf(request, target);
  const { kind } = target.resource;
  const { namespace, name, subresource } = target;
  const resource = subresource === "" ? kind.plural : `${kind.plural}/${subresource}`;
  requireMay(user, { verb: verb ?? method.toLowerCase(), group: kind.group, resource, name, namespace });
  if (subresource !== "" && !(kind.subresources as readonly string[]).includes(subresource)) throw new ApiError(404, pathNotFound);
  if (!verb) throw methodNotAllowed();
  switch (verb) {
    case "get":
      return readObject(context, target, request);
    case "list":
      return listObjects(context, target, request);
    case "watch":
      watches.take(user, response);
      watchObjects(context, target, request, response);
      return undefined;
    case "create":
      return subresource === "token"
        ? await createToken(context, target, message)
        : await createObject(context, target, request, (await readBody(message)).value);
    case "update":
      return await updateObject(context, target, request, (await readBody(message)).value);
    case "patch":
      return await patchObject(context, target, request, await readBody(message));
    case "delete":
      return await deleteObject(context, target, request, (await readBody(message)).value);
    default:
      return await deleteCollection(context, target, request, (await readBody(message)).value);
  }
}

type Verb = "get" | "list" | "watch" | "create" | "update" | "patch" | "delete" | "deletecollection";

/** Undefined: the method is not one for the path. */
function verbOf({ method, query }: ApiRequest, { name, subresource, namespace, resource }: ObjectPath): Verb | undefined {
  const isCollection = name === "";
  const wantsWatch = query.get("watch") === "true" || query.get("watch") === "1";
  if (subresource === "token") return method === "POST" ? "create" : undefined;
  switch (method) {
    case "GET":
    case "HEAD":
      return wantsWatch && subresource === "" ? "watch" : isCollection ? "list" : "get";
    case "POST":
      return isCollection && (namespace !== "" || !resource.kind.namespaced) ? "create" : undefined;
    case "PUT":
      return isCollection ? undefined : "update";
    case "PATCH":
      return isCollection ? undefined : "patch";
    case "DELETE":
      if (isCollection) return namespace !== "" ? "deletecollection" : undefined;
      return subresource === "" ? "delete" : undefined;
    default:
      return undefined;
  }
}

function methodNotAllowed(): ApiError {
  return new ApiError(405, "the server does not allow this method on the requested resource");
}

async function createToken({ store, tokens }: ApiContext, { namespace, name }: ObjectPath, message: IncomingMessage): Promise<Answer> {
  requireNamespace(store, namespace, false);
  return { code: 201, body: await requestToken(tokens, { namespace, serviceAccount: name }, (await readBody(message)).value) };
}
