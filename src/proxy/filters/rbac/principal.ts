/** envoy.config.rbac.v3.Principal: who may do it. */
import { ConfigError } from "../../../api/config-error.ts";
import type { Principal, Principal_Authenticated } from "../../../api/gen/envoy/config/rbac/v3/rbac_pb.js";
import type { FilterStateMatcher } from "../../../api/gen/envoy/type/matcher/v3/filter_state_pb.js";
import type { StringMatcher } from "../../../api/gen/envoy/type/matcher/v3/string_pb.js";
import { certificateFields } from "../../accesslog/certificate-fields.ts";
import { compileStringMatcher, compileStringMatchers } from "../../router/string-matcher.ts";
import { filterStateOf, type TlsInfo } from "../../stream-info.ts";
import { compileAddress } from "./addresses.ts";
import { all, always, any, type Condition, not, ofConnection, ofRequest } from "./condition.ts";
import { headerCondition, metadataCondition, pathCondition, sourcedMetadataCondition, unknownExtension } from "./shared-conditions.ts";

/** Of alternatives: names of clients, of which there can be many, become one condition. */
export function compilePrincipals(messages: readonly Principal[]): Condition[] {
  const names: StringMatcher[] = [];
  const conditions: Condition[] = [];
  for (const message of messages) {
    const name = message.identifier.case === "authenticated" ? message.identifier.value.principalName : undefined;
    if (name === undefined) conditions.push(compilePrincipal(message));
    else names.push(name);
  }
  if (names.length > 0) conditions.push(nameCondition(names));
  return conditions;
}

function compilePrincipal({ identifier }: Principal): Condition {
  switch (identifier.case) {
    case "andIds":
      return all(identifier.value.ids.map(compilePrincipal));
    case "orIds":
      return any(compilePrincipals(identifier.value.ids));
    case "notId":
      return not(compilePrincipal(identifier.value));
    case "any":
      return always;
    case "authenticated":
      return compileAuthenticated(identifier.value);
    case "sourceIp":
      return compileAddress(identifier.value, "source");
    case "directRemoteIp":
      return compileAddress(identifier.value, "directRemote");
    case "remoteIp":
      return compileAddress(identifier.value, "remote");
    case "header":
      return headerCondition(identifier.value);
    case "urlPath":
      return pathCondition([identifier.value]);
    case "metadata":
      return metadataCondition(identifier.value);
    case "sourcedMetadata":
      return sourcedMetadataCondition(identifier.value);
    case "filterState":
      return compileFilterState(identifier.value);
    case "custom":
      throw unknownExtension(identifier.value);
    case undefined:
      throw new ConfigError("Principal: identifier: value is required");
    default:
      return identifier satisfies never;
  }
}

/** Without a name every TLS client is meant, even one that showed no certificate. */
function compileAuthenticated({ principalName }: Principal_Authenticated): Condition {
  if (principalName === undefined) return ofConnection(({ connection }) => connection.info.tls !== null);
  return nameCondition([principalName]);
}

function nameCondition(names: readonly StringMatcher[]): Condition {
  const test = compileStringMatchers(names);
  return ofConnection(({ connection }) => {
    const { tls } = connection.info;
    return tls !== null && isNamed(tls, test);
  });
}

/** A client has all its URI and DNS names, and its subject, which is "" where there is no certificate. */
function isNamed(tls: TlsInfo, test: (name: string) => boolean): boolean {
  const certificate = tls.peerCertificate === null ? null : certificateFields(tls.peerCertificate);
  if (certificate === null) return test("");
  return certificate.uriSans.some(test) || certificate.dnsSans.some(test) || test(certificate.subject);
}

function compileFilterState({ key, matcher }: FilterStateMatcher): Condition {
  switch (matcher.case) {
    case "stringMatch": {
      const test = compileStringMatcher(matcher.value);
      return ofRequest(({ info }) => {
        const value = filterStateOf(info, key);
        return value !== undefined && test(value);
      });
    }
    case "addressMatch":
      throw new ConfigError("FilterStateMatcher: address_match is not supported by this proxy");
    case undefined:
      throw new ConfigError("FilterStateMatcher: matcher: value is required");
    default:
      return matcher satisfies never;
  }
}
