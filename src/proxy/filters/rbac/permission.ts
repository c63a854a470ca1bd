/** envoy.config.rbac.v3.Permission: what may be done. */
import { ConfigError } from "../../../api/config-error.ts";
import type { Permission } from "../../../api/gen/envoy/config/rbac/v3/rbac_pb.js";
import type { PathMatcher } from "../../../api/gen/envoy/type/matcher/v3/path_pb.js";
import type { Int32Range } from "../../../api/gen/envoy/type/v3/range_pb.js";
import { compileStringMatcher } from "../../router/string-matcher.ts";
import { compilePathTemplateExtension } from "../../router/uri-template.ts";
import { compileAddress } from "./addresses.ts";
import { all, always, any, type Condition, not, ofConnection, ofRequest } from "./condition.ts";
import { headerCondition, metadataCondition, pathCondition, sourcedMetadataCondition, unknownExtension } from "./shared-conditions.ts";

/** Of alternatives: paths, of which there can be many, become one condition. */
export function compilePermissions(messages: readonly Permission[]): Condition[] {
  const paths: PathMatcher[] = [];
  const conditions: Condition[] = [];
  for (const message of messages) {
    if (message.rule.case === "urlPath") paths.push(message.rule.value);
    else conditions.push(compilePermission(message));
  }
  if (paths.length > 0) conditions.push(pathCondition(paths));
  return conditions;
}

function compilePermission({ rule }: Permission): Condition {
  switch (rule.case) {
    case "andRules":
      return all(rule.value.rules.map(compilePermission));
    case "orRules":
      return any(compilePermissions(rule.value.rules));
    case "notRule":
      return not(compilePermission(rule.value));
    case "any":
      return always;
    case "header":
      return headerCondition(rule.value);
    case "urlPath":
      return pathCondition([rule.value]);
    case "uriTemplate": {
      const test = compilePathTemplateExtension(rule.value);
      return ofRequest(({ info }) => test(info.path));
    }
    case "destinationIp":
      return compileAddress(rule.value, "local");
    case "destinationPort": {
      const port = rule.value;
      return ofConnection(({ connection }) => connection.localPort === port);
    }
    case "destinationPortRange":
      return compilePortRange(rule.value);
    case "requestedServerName": {
      const test = compileStringMatcher(rule.value);
      return ofConnection(({ connection }) => test(connection.info.requestedServerName));
    }
    case "metadata":
      return metadataCondition(rule.value);
    case "sourcedMetadata":
      return sourcedMetadataCondition(rule.value);
    case "matcher":
      throw unknownExtension(rule.value);
    case undefined:
      throw new ConfigError("Permission: rule: value is required");
    default:
      return rule satisfies never;
  }
}

const maxPort = 65536;

function compilePortRange({ start, end }: Int32Range): Condition {
  if (start < 0 || start > maxPort) throw new ConfigError(`range start ${start} is out of bounds`);
  if (end < 0 || end > maxPort) throw new ConfigError(`range end ${end} is out of bounds`);
  if (start >= end) throw new ConfigError(`range start ${start} cannot be greater or equal than range end ${end}`);
  return ofConnection(({ connection }) => connection.localPort >= start && connection.localPort < end);
}
