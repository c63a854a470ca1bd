/** The same bootstraps given to Envoy and to us: accepted by both, or refused by both for the same reason. */
import { describe, expect, it } from "vitest";
import { envoyBinary, envoyValidates } from "../support/envoy.ts";
import { fileLog } from "../support/static-bootstrap.ts";
import { comparableReason, ourVerdict } from "../support/verdict.ts";

const base = `
static_resources:
  listeners:
  - name: in
    address: {socket_address: {address: 127.0.0.1, port_value: 10000}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: out}}]}]}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: out
    load_assignment: {cluster_name: out, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 8000}}}}]}]}
`;

const endpoint = "{endpoint: {address: {socket_address: {address: a.test, port_value: 80}}}}";
const cares = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig";

/** Name of the case, what is replaced in the base, and by what. */
const edits: readonly (readonly [name: string, from: string, to: string])[] = [
  ["nothing", "", ""],
  ["an unknown field at the top", "static_resources:", "nope: 1\nstatic_resources:"],
  ["an unknown field of a listener", "    filter_chains:", "    nope: 1\n    filter_chains:"],
  ["an unknown field inside typed_config", "stat_prefix: in", "stat_prefix: in\n          nope: 1"],
  ["an unknown enum value", "  - name: out", "  - name: out\n    type: NOPE"],
  ["text for a number", "port_value: 10000", "port_value: ten"],
  ["a negative port", "port_value: 10000", "port_value: -1"],
  ["a port out of range", "port_value: 10000", "port_value: 70000"],
  ["a number for a duration", "  - name: out", "  - name: out\n    connect_timeout: 5"],
  ["a duration of another unit", "  - name: out", "  - name: out\n    connect_timeout: 5m"],
  ["a duration of zero", "  - name: out", "  - name: out\n    connect_timeout: 0s"],
  ["text for a flag", "  - name: out", "  - name: out\n    ignore_health_on_host_removal: maybe"],
  ["a YAML 1.1 flag", "  - name: out", "  - name: out\n    ignore_health_on_host_removal: yes"],
  ["a number for text", "- name: in", "- name: 5"],
  ["fields in camelCase", "stat_prefix: in", "statPrefix: in"],
  ["an enum by number", "  - name: out", "  - name: out\n    lb_policy: 1"],
  ["an enum number that is none", "  - name: out", "  - name: out\n    lb_policy: 99"],
  ["a type that does not exist", "http.router.v3.Router", "http.router.v3.Nope"],
  ["two of a oneof", "route: {cluster: out}", "route: {cluster: out}, redirect: {}"],
  ["no stat_prefix", "          stat_prefix: in\n", ""],
  ["a cluster without a name", "  - name: out", "  - connect_timeout: 1s"],
  ["no domains", 'domains: ["*"], ', ""],
  ["a match without a path", "match: {prefix: /}", "match: {}"],
  ["a route without an action", "route: {cluster: out}", "name: x"],
  ["a status out of range", "route: {cluster: out}", "direct_response: {status: 99}"],
  [
    "a header name with a line break",
    "route: {cluster: out}",
    'route: {cluster: out}, request_headers_to_add: [{header: {key: "a\\n", value: x}}]',
  ],
  ["an empty list of weighted clusters", "route: {cluster: out}", "route: {weighted_clusters: {clusters: []}}"],
  ["a listener without an address", "    address: {socket_address: {address: 127.0.0.1, port_value: 10000}}\n", ""],
  [
    "a ring that is to be larger than it may be",
    "  - name: out",
    "  - name: out\n    lb_policy: RING_HASH\n    ring_hash_lb_config: {minimum_ring_size: 100, maximum_ring_size: 10}",
  ],
  [
    "a ring of too many places",
    "  - name: out",
    "  - name: out\n    lb_policy: RING_HASH\n    ring_hash_lb_config: {minimum_ring_size: 8388609}",
  ],
  [
    "a Maglev table whose size is no prime",
    "  - name: out",
    "  - name: out\n    lb_policy: MAGLEV\n    maglev_lb_config: {table_size: 100}",
  ],
  ...(
    [
      ["", "extra_source_addresses: [{address: {address: 127.0.0.2, port_value: 0}}]"],
      [
        ", of one family",
        'extra_source_addresses: [{address: {address: "::1", port_value: 0}}, {address: {address: "::2", port_value: 0}}]',
      ],
      [
        ", said twice",
        'extra_source_addresses: [{address: {address: "::1", port_value: 0}}], additional_source_addresses: [{address: "::1", port_value: 0}]',
      ],
    ] as const
  ).map(
    ([which, more]) =>
      [
        `more sources than a cluster can have${which}`,
        "  - name: out",
        `  - name: out\n    upstream_bind_config: {source_address: {address: 127.0.0.1, port_value: 0}, ${more}}`,
      ] as const,
  ),
  [
    "hashing by host names that the cluster doesn't have",
    "  - name: out",
    "  - name: out\n    lb_policy: RING_HASH\n    common_lb_config: {consistent_hashing_lb_config: {use_hostname_for_hashing: true}}",
  ],
  [
    "a load balancing policy that is announced and not there",
    "  - name: out",
    "  - name: out\n    lb_policy: LOAD_BALANCING_POLICY_CONFIG",
  ],
  ["a hash of nothing", "route: {cluster: out}", "route: {cluster: out, hash_policy: [{}]}"],
  ["a hash of a header without a name", "route: {cluster: out}", "route: {cluster: out, hash_policy: [{header: {}}]}"],
  [
    "a retry priority that does not exist",
    "route: {cluster: out}",
    "route: {cluster: out, retry_policy: {retry_on: 5xx, retry_priority: {name: nope}}}",
  ],
  ["two clusters of one name", "  clusters:", "  clusters:\n  - {name: out}"],
  ["a host name in a static cluster", "address: 127.0.0.1, port_value: 8000", "address: localhost, port_value: 8000"],
  ["a host name in a DNS cluster", "  - name: out", "  - name: out\n    type: STRICT_DNS"],
  [
    "a logical host with two endpoints",
    "  - name: out",
    `  - name: other\n    type: LOGICAL_DNS\n    load_assignment: {cluster_name: other, endpoints: [{lb_endpoints: [${endpoint}, ${endpoint}]}]}\n  - name: out`,
  ],
  ["a logical host that is nowhere", "  - name: out", "  - name: other\n    type: LOGICAL_DNS\n  - name: out"],
  [
    "a resolver that does not exist",
    "  - name: out",
    dnsCluster(
      "typed_dns_resolver_config: {name: nope, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}",
    ),
  ],
  [
    "a nameserver by its name",
    "  - name: out",
    dnsCluster("dns_resolution_config: {resolvers: [{socket_address: {address: ns.test, port_value: 53}}]}"),
  ],
  ["a nameserver that is a file", "  - name: out", dnsCluster("dns_resolution_config: {resolvers: [{pipe: {path: /x}}]}")],
  [
    "no attempts at asking a nameserver",
    "  - name: out",
    dnsCluster(`typed_dns_resolver_config: {name: c, typed_config: {"@type": ${cares}, query_tries: 0}}`),
  ],
  [
    "a nameserver's settings",
    "  - name: out",
    dnsCluster(`typed_dns_resolver_config: {name: c, typed_config: {"@type": ${cares}, query_tries: 1, query_timeout_seconds: 1}}`),
  ],
  ["a pause after failures that shrinks", "  - name: out", dnsCluster("dns_failure_refresh_rate: {base_interval: 2s, max_interval: 1s}")],
  ["a key given twice", "  - name: out", "  - name: other\n    name: out"],
  ["an anchor and an alias", "  - name: out", "  - name: &n out\n    alt_stat_name: *n"],
  ["an access log operator that does not exist", "stat_prefix: in", accessLog("%NOPE%")],
  ["an access log format that ends early", "stat_prefix: in", accessLog("50% done")],
  ["a header operator without a header", "stat_prefix: in", accessLog("%REQ%")],
  ["a length where none is allowed", "stat_prefix: in", accessLog("%DURATION:3%")],
  ["an access log in a directory that does not exist", "stat_prefix: in", accessLog("%DURATION%", "/no/such/directory/log")],
  ["weights that exceed the maximum", "  - name: out", "  - name: out\n    outlier_detection: {max_ejection_percent: 101}"],
  ["an admin address that is none", "static_resources:", "admin: {address: {}}\nstatic_resources:"],
  [
    "ADS without a node",
    "static_resources:",
    "dynamic_resources: {cds_config: {ads: {}}, ads_config: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: out}}]}}\nstatic_resources:",
  ],
];

function dnsCluster(settings: string): string {
  return `  - name: other\n    type: STRICT_DNS\n    ${settings}\n  - name: out`;
}

function accessLog(format: string, file = "/dev/null"): string {
  return `stat_prefix: in\n          access_log: [${JSON.stringify(fileLog(file, format))}]`;
}

describe.skipIf(!envoyBinary)("Bootstrap, beside Envoy", () => {
  it.each(edits)("has the same verdict on %s", (_name, from, to) => {
    expect(base).toContain(from);
    const yaml = base.replace(from, to);
    expect(comparableReason(ourVerdict(yaml))).toEqual(comparableReason(envoyValidates(yaml)));
  });
});
