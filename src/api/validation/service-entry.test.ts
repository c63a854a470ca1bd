import { describe } from "vitest";
import { itChecks } from "./problems-of.ts";

const http = "ports: [{ number: 80, name: http, protocol: HTTP }]";
const se = (settings: string, ports = http) => `hosts: [a.example.com]\n${ports}\n${settings}`;

describe("ServiceEntry", () => {
  itChecks("ServiceEntry", [
    ["takes DNS, STATIC and NONE", se("resolution: DNS")],
    [
      "takes static endpoints",
      se(
        "resolution: STATIC\nendpoints: [{ address: 10.0.0.1, ports: { http: 8080 }, labels: { app: x } }, { address: 'unix:///run/x.sock' }]",
      ),
    ],
    ["takes blocks of addresses", se("addresses: [10.0.0.0/8, '::1']\nresolution: NONE")],
    ["takes what nobody sees", se("resolution: DNS\nexportTo: ['~']")],
    ["takes dynamic DNS", `hosts: ['*.example.com']\nresolution: DYNAMIC_DNS\n${http}`],
    ["wants hosts", `${http}\nresolution: STATIC`, "spec.hosts: is empty"],
    [
      "wants hosts that are names",
      `hosts: ['*', a_b]\n${http}\nresolution: NONE`,
      'spec.hosts[0]: "*" is no host',
      'spec.hosts[1]: "a_b" is not a host name',
    ],
    [
      "warns of part of a label as a wildcard",
      `hosts: ['*-x.example.com']\n${http}\nresolution: NONE`,
      'W spec.hosts[0]: "*-x.example.com": a wildcard stands',
    ],
    [
      "wants selector or endpoints",
      se("resolution: STATIC\nworkloadSelector: { labels: { a: b } }\nendpoints: [{ address: 1.1.1.1 }]"),
      "spec: only one of workloadSelector and endpoints",
    ],
    [
      "warns of an empty selector, and of one with NONE",
      se("resolution: NONE\nworkloadSelector: {}"),
      "W spec.workloadSelector: has no labels",
      "W spec.workloadSelector: has no meaning",
    ],
    [
      "wants addresses",
      se("addresses: [x, 10.0.0.0/8]\nresolution: DNS"),
      'spec.addresses[0]: "x" is neither',
      "spec.addresses[1]: a block of addresses",
    ],
    [
      "wants ports with names and numbers of their own",
      se(
        "resolution: DNS",
        "ports: [{ number: 80, name: a_b, protocol: FOO }, { number: 80, name: a_b, protocol: HTTP, targetPort: 70000 }, { number: 0, name: c, protocol: HTTP }]",
      ),
      'spec.ports[0].name: "a_b" is not',
      'spec.ports[0].protocol: "FOO"',
      'spec.ports[1].name: "a_b" is not',
      'spec.ports[1].name: "a_b" names an earlier',
      "spec.ports[1].number: 80 is an earlier",
      "spec.ports[1].targetPort: port 70000",
      "spec.ports[2].number: port 0",
    ],
    [
      "warns of TCP without an address",
      se("resolution: NONE", "ports: [{ number: 3306, name: db, protocol: TCP }]"),
      "W spec.ports[0]: TCP without an address",
    ],
    ["wants no endpoints with NONE", se("endpoints: [{ address: 1.1.1.1 }]"), "spec.endpoints: can't be given with resolution NONE"],
    [
      "wants addresses of static endpoints",
      se(
        "resolution: STATIC\nendpoints: [{ address: name.example.com, ports: { other: 1, http: 0 } }, {}, { address: 'unix://rel', ports: { http: 1 } }]",
      ),
      'spec.endpoints[0].address: "name.example.com" is not an IP',
      "spec.endpoints[0].ports.http: port 0",
      'spec.endpoints[0].ports.other: the service has no port named "other"',
      "spec.endpoints[1].address: is missing",
      'spec.endpoints[2].address: "rel" is not',
      "spec.endpoints[2].ports: can't be given",
    ],
    [
      "wants one port for a socket",
      se(
        "resolution: STATIC\nendpoints: [{ address: 'unix:///x' }]",
        "ports: [{ number: 80, name: a, protocol: HTTP }, { number: 81, name: b, protocol: HTTP }]",
      ),
      "spec.endpoints[0].address: a Unix socket can serve one port",
    ],
    ["wants names to resolve", `hosts: ['*.example.com']\n${http}\nresolution: DNS`, "spec.hosts[0]: must be a full name"],
    [
      "wants one endpoint for round robin",
      se("resolution: DNS_ROUND_ROBIN\nendpoints: [{ address: a.com }, { address: b.com }]"),
      "spec.endpoints: resolution DNS_ROUND_ROBIN has at most one",
    ],
    ["wants endpoints that resolve", se("resolution: DNS\nendpoints: [{ address: 'a_b' }]"), 'spec.endpoints[0].address: "a_b" is neither'],
    [
      "wants hosts that can be told apart",
      "hosts: [a.com, b.com]\naddresses: [1.1.1.1]\nresolution: DNS\nports: [{ number: 1, name: t, protocol: TCP }]",
      "spec.ports[0].protocol: several hosts",
      "W spec.hosts: several hosts",
    ],
    [
      "wants wildcards of dynamic DNS",
      se(
        "resolution: DYNAMIC_DNS\naddresses: [1.1.1.1]\nendpoints: [{ address: 1.1.1.1 }]",
        "ports: [{ number: 1, name: t, protocol: TCP }]",
      ),
      "spec.addresses: can't",
      "spec.endpoints: can't",
      "spec.hosts[0]: must be a wildcard",
      'spec.ports[0].protocol: "TCP" names no host',
    ],
    [
      "wants no stars in a selector",
      se("resolution: STATIC\nworkloadSelector: { labels: { a: '*' } }"),
      "spec.workloadSelector.labels.a: wildcards",
    ],
  ]);
});
