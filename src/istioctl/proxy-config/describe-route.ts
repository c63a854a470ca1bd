/** Routes in a few words. Source: Istio istioctl/pkg/writer/envoy/configdump/listener.go. */
import { type JsonObject, objectAt, objectsAt, textAt, textsAt } from "../output/json-fields.ts";

/** Of a RouteMatch its path; headers are not shown. */
export function describeMatch(match: JsonObject): string {
  const prefix = textAt(match, "prefix");
  const separated = textAt(match, "path_separated_prefix");
  const regex = match.safe_regex === undefined ? "" : `regex ${textAt(match, "safe_regex", "regex")}`;
  return [prefix && `${prefix}*`, separated && `PathPrefix:${separated}`, textAt(match, "path"), regex].filter(Boolean).join(" ");
}

/** Where an inline RouteConfiguration leads. */
export function describeRouteConfig(route: JsonObject): string {
  const hosts = objectsAt(route, "virtual_hosts");
  const cluster = hosts.length === 1 ? clusterOfAll(hosts[0]!) : "";
  if (cluster !== "") return cluster.includes("Cluster") ? cluster : `Cluster: ${cluster}`;
  const described = hosts.map((host) => {
    const domains = textsAt(host, "domains");
    const matches = objectsAt(host, "routes").map((one) => describeMatch(objectAt(one, "match")));
    return domains.length === 1 && domains[0] === "*" ? matches.join(", ") : `${domains.join("/")} ${matches.join(", ")}`;
  });
  return `Inline Route: ${described.join("; ")}`;
}

/** The cluster that gets everything; "" when there is no such. */
function clusterOfAll(host: JsonObject): string {
  const [domain, ...domains] = textsAt(host, "domains");
  const [route, ...routes] = objectsAt(host, "routes");
  if (domain !== "*" || domains.length > 0 || routes.length > 0 || textAt(route, "match", "prefix") !== "/") return "";
  return textAt(route, "route", "cluster");
}
