import { describe } from "vitest";
import { itChecks } from "./problems-of.ts";

const ingress = (settings: string) => `ingress: [{ port: { number: 80, name: http, protocol: HTTP }, ${settings} }]`;

describe("Sidecar", () => {
  itChecks("Sidecar", [
    ["takes imports", "egress: [{ hosts: ['./*', istio-system/*, 'prod/*.example.com'] }]"],
    ["leaves out what others import", "egress: [{ hosts: ['*/*', '~./a.example.com', '~prod/*', '~*/b.example.com'] }]"],
    [
      "takes listeners of its own",
      `${ingress("defaultEndpoint: '127.0.0.1:8080'")}\negress: [{ port: { number: 9080, protocol: HTTP }, hosts: ['*/a.example.com'] }, { hosts: ['~/*'] }]`,
    ],
    ["takes sockets", "egress: [{ port: { number: 0, protocol: TCP }, bind: 'unix:///x', hosts: ['./*'] }]"],
    ["wants to say something", "workloadSelector: { labels: { a: b } }", "spec: is empty"],
    ["warns of a selector without labels", "workloadSelector: {}\negress: [{ hosts: ['./*'] }]", "W spec.workloadSelector: has no labels"],
    ["wants a port to listen on", "ingress: [{ defaultEndpoint: '127.0.0.1:1' }]", "spec.ingress[0].port: is missing"],
    [
      "wants ports that differ",
      "ingress: [{ port: { number: 1, protocol: TCP } }, { port: { number: 1, protocol: FOO, name: a_b, targetPort: 1 } }]",
      'spec.ingress[1].port.name: "a_b"',
      "spec.ingress[1].port.number: 1 is an earlier",
      'spec.ingress[1].port.protocol: "FOO"',
      "spec.ingress[1].port.targetPort: has no meaning",
    ],
    [
      "wants the application on this machine",
      ingress("defaultEndpoint: '10.0.0.1:80', bind: x"),
      'spec.ingress[0].bind: "x"',
      'spec.ingress[0].defaultEndpoint: "10.0.0.1:80" is not 127.0.0.1',
    ],
    [
      "wants a socket's path, and a port",
      "ingress: [{ port: { number: 1, protocol: TCP }, defaultEndpoint: 'unix://x' }, { port: { number: 2, protocol: TCP }, defaultEndpoint: ':70000' }]",
      "spec.ingress[0].defaultEndpoint: ",
      "spec.ingress[1].defaultEndpoint: port 70000",
    ],
    [
      "wants TLS that a sidecar can do",
      ingress("tls: { mode: ISTIO_MUTUAL, httpsRedirect: true, subjectAltNames: [a] }"),
      "spec.ingress[0].tls.httpsRedirect: ",
      "spec.ingress[0].tls.mode: ISTIO_MUTUAL",
      "spec.ingress[0].tls.subjectAltNames: ",
      "spec.ingress[0].tls: can't be given for HTTP",
    ],
    [
      "warns of HTTP settings for TCP",
      "ingress: [{ port: { number: 1, protocol: TCP }, connectionPool: { http: { maxRetries: 1 } } }]",
      "W spec.ingress[0].connectionPool.http: has no meaning",
    ],
    [
      "wants hosts with namespaces",
      "egress: [{ hosts: [a.example.com, 'ns/short', 'A B/a.example.com'] }, { hosts: [] }]",
      "spec.egress[0].hosts[0]: ",
      'spec.egress[0].hosts[1]: "short" is a short name',
      'spec.egress[0].hosts[2]: namespace "A B"',
      "spec.egress[0].port: is missing",
      "spec.egress[1].hosts: is empty",
    ],
    [
      "wants sockets to capture nothing",
      "egress: [{ port: { number: 0, protocol: TCP }, captureMode: IPTABLES, hosts: ['./*'] }, { port: { number: 0, protocol: TCP }, hosts: ['./*'] }]",
      "spec.egress[0].bind: must be a Unix socket",
      "spec.egress[0].captureMode: ",
      "spec.egress[1].bind: must be a Unix socket",
      'spec.egress[1].port: "" is an earlier',
    ],
    [
      "warns of hosts that others cover",
      "egress: [{ hosts: ['*/*', './a.example.com', './a.example.com'] }]",
      'W spec.egress[0].hosts: "*/*" selects',
      'W spec.egress[0].hosts[2]: "./a.example.com" is covered',
    ],
    [
      "wants an egress proxy with a port, for ALLOW_ANY",
      "outboundTrafficPolicy: { mode: REGISTRY_ONLY, egressProxy: { host: 'a_b' } }",
      "spec.outboundTrafficPolicy.egressProxy.host: ",
      "spec.outboundTrafficPolicy.egressProxy.host: ",
      "spec.outboundTrafficPolicy.egressProxy.port: is missing",
      "spec.outboundTrafficPolicy.egressProxy: is for mode",
    ],
  ]);
});
