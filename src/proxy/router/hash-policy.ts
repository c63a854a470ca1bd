/**
 * RouteAction.hash_policy: what of a request decides on the endpoint, in clusters that choose by hash. Several hashes are combined in the
 * order of the list. Source: Envoy source/common/http/hash_policy.cc.
 */
import { ConfigError } from "../../api/config-error.ts";
import type { RouteAction_HashPolicy, RouteAction_HashPolicy_Cookie } from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { combine, Hash64, hex } from "../../lib/hash64.ts";
import { xxHash64 } from "../../lib/xx-hash64.ts";
import { type CookieSettings, cookieValue, setCookie } from "../http/cookies.ts";
import { compileSubstitution } from "../regex.ts";
import { type HeaderList, hashableStateOf, type StreamInfo } from "../stream-info.ts";
import { hashAddress } from "./address-hash.ts";
import { pseudoHeader, queryParameter } from "./header-matcher.ts";

/** Hash of one request, and the cookies that make its next requests have the same. */
export class RequestHash extends Hash64 {
  cookies: string[] | null = null;
}

/** False: the request has nothing of the kind, and `into` is as it was. */
type HashMethod = (info: StreamInfo, into: Hash64, request: RequestHash) => boolean;

interface Part {
  readonly evaluate: HashMethod;
  /** Later ones don't count when there is a hash by now. */
  readonly isTerminal: boolean;
}

export type HashPolicy = readonly Part[];

export function compileHashPolicy(policies: readonly RouteAction_HashPolicy[]): HashPolicy {
  return policies.flatMap((policy) => {
    const evaluate = compileMethod(policy);
    return evaluate === null ? [] : [{ evaluate, isTerminal: policy.terminal }];
  });
}

const scratch = new Hash64();

/** null: nothing that the policy looks for. */
export function hashRequest(policy: HashPolicy, info: StreamInfo): RequestHash | null {
  if (policy.length === 0) return null;
  const request = new RequestHash();
  let hasHash = false;
  for (let i = 0; i < policy.length; i++) {
    const { evaluate, isTerminal } = policy[i]!;
    if (evaluate(info, scratch, request)) {
      combine(request, scratch);
      hasHash = true;
    }
    if (isTerminal && hasHash) break;
  }
  return hasHash ? request : null;
}

function compileMethod({ policySpecifier }: RouteAction_HashPolicy): HashMethod | null {
  switch (policySpecifier.case) {
    case "header": {
      const { headerName, regexRewrite } = policySpecifier.value;
      return byHeader(headerName.toLowerCase(), regexRewrite === undefined ? null : compileSubstitution(regexRewrite));
    }
    case "cookie":
      return byCookie(policySpecifier.value);
    case "connectionProperties":
      return policySpecifier.value.sourceIp ? (info, into) => hashAddress(info.downstreamRemoteAddress, into) : null;
    case "queryParameter": {
      const { name } = policySpecifier.value;
      return (info, into) => hashText(queryParameter(info.path, name), into);
    }
    case "filterState": {
      const { key } = policySpecifier.value;
      return (info, into) => hashText(hashableStateOf(info, key), into);
    }
    case undefined:
      throw new ConfigError("HashPolicy: policy_specifier: value is required");
    default:
      return policySpecifier satisfies never;
  }
}

function hashText(text: string | undefined, into: Hash64): boolean {
  if (text === undefined) return false;
  xxHash64(text, into);
  return true;
}

type Rewrite = (text: string) => string;

function byHeader(name: string, rewrite: Rewrite | null): HashMethod {
  const pseudo = pseudoHeader(name);
  if (pseudo === undefined) return (info, into) => hashValues(info.requestHeaders, name, rewrite, into);
  return (info, into) => {
    const value = pseudo(info);
    return hashText(value === undefined || rewrite === null ? value : rewrite(value), into);
  };
}

/** Of several lines all values count, in whatever order they came. Hot. */
function hashValues(headers: HeaderList, name: string, rewrite: Rewrite | null, into: Hash64): boolean {
  let only: string | undefined;
  let several: string[] | null = null;
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] !== name) continue;
    const value = rewrite === null ? headers[i + 1]! : rewrite(headers[i + 1]!);
    if (only === undefined) {
      only = value;
      continue;
    }
    several ??= [only];
    several.push(value);
  }
  if (several === null) return hashText(only, into);
  into.high = 0;
  into.low = 0;
  for (const value of several.sort()) xxHash64(value, into, into.high, into.low);
  return true;
}

function byCookie({ name, path, ttl, attributes }: RouteAction_HashPolicy_Cookie): HashMethod {
  const settings: CookieSettings | null = ttl === undefined ? null : { name, path, maxAge: Number(ttl.seconds), attributes };
  return (info, into, request) => {
    let value = cookieValue(info.requestHeaders, name) ?? "";
    if (value === "") {
      if (settings === null) return false;
      // The same for all requests of a connection that are under way at once.
      xxHash64(info.connection.remoteAddress + info.connection.localAddress, into);
      value = hex(into);
      request.cookies ??= [];
      request.cookies.push(setCookie(settings, value));
    }
    xxHash64(value, into);
    return true;
  };
}
