import { describe } from "vitest";
import { itChecks } from "./problems-of.ts";

describe("WorkloadEntry", () => {
  itChecks("WorkloadEntry", [
    [
      "takes an address, a name or a socket",
      "{ address: 10.0.0.1, ports: { http: 8080 }, labels: { app: x }, serviceAccount: x, weight: 5 }",
    ],
    ["takes a name", "address: vm.example.com"],
    ["takes a socket", "address: unix:///run/app.sock"],
    ["wants an address", "labels: { a: b }", "spec.address: is missing"],
    ["warns of a network without an address", "network: east", "W spec.address: is missing"],
    ["wants an address that is one", "address: a_b", 'spec.address: "a_b" is neither'],
    ["wants no ports with a socket", "{ address: 'unix:///x', ports: { http: 80 } }", "spec.ports: can't"],
    [
      "wants ports and labels that are such",
      "{ address: 1.1.1.1, ports: { a_b: 0 }, labels: { 'a b': c } }",
      'spec.labels["a b"]: ',
      "spec.ports.a_b: port 0",
      'spec.ports.a_b: "a_b"',
    ],
  ]);
});

describe("WorkloadGroup", () => {
  itChecks("WorkloadGroup", [
    [
      "takes a template and a probe",
      "{ metadata: { labels: { app: x } }, template: { serviceAccount: x }, probe: { periodSeconds: 5, httpGet: { path: /healthz, port: 8080, scheme: HTTP } } }",
    ],
    ["wants a template", "metadata: { labels: { 'a b': c } }", 'spec.metadata.labels["a b"]: ', "spec.template: is missing"],
    [
      "wants a probe with a method",
      "{ template: {}, probe: { timeoutSeconds: -1 } }",
      "spec.probe.timeoutSeconds: must not be negative",
      "spec.probe: has no method",
    ],
    [
      "wants one method",
      "{ template: {}, probe: { tcpSocket: { port: 1 }, exec: { command: [a] } } }",
      "spec.probe: only one of tcpSocket, exec",
    ],
    [
      "wants ports, schemes and headers",
      "{ template: {}, probe: { httpGet: { port: 0, scheme: ftp, httpHeaders: [{ name: 'a b' }] } } }",
      "spec.probe.httpGet.httpHeaders[0].name: ",
      "spec.probe.httpGet.port: port 0",
      'spec.probe.httpGet.scheme: "ftp"',
    ],
    ["wants a command", "{ template: {}, probe: { exec: {} } }", "spec.probe.exec.command: is empty"],
    ["wants a port to connect to", "{ template: {}, probe: { tcpSocket: {} } }", "spec.probe.tcpSocket.port: port 0"],
  ]);
});
