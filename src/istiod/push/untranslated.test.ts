import { describe, expect, it } from "vitest";
import { decodeDocuments } from "../../api/documents/decode-documents.ts";
import { untranslated } from "./untranslated.ts";

function sentences(group: string, kind: string, spec: string): string[] {
  const { objects, errors } = decodeDocuments(
    `{apiVersion: ${group}, kind: ${kind}, metadata: {name: x, namespace: default}, spec: ${spec}}`,
    "test.yaml",
  );
  if (errors[0]) throw errors[0];
  return objects.flatMap(untranslated);
}

const envoyFilter = "networking.istio.io/v1alpha3";
const networking = "networking.istio.io/v1";
const security = "security.istio.io/v1";

describe("untranslated configuration", () => {
  it.each([
    [envoyFilter, "EnvoyFilter", "{configPatches: [{applyTo: BOOTSTRAP, patch: {operation: MERGE, value: {}}}]}", "it is not patched"],
    [envoyFilter, "EnvoyFilter", "{configPatches: [{applyTo: CLUSTER, patch: {operation: REPLACE, value: {}}}]}", "REPLACE does nothing"],
    [envoyFilter, "EnvoyFilter", "{configPatches: [{applyTo: HTTP_FILTER, patch: {operation: REMOVE}}]}", "names the filter"],
    [
      envoyFilter,
      "EnvoyFilter",
      "{configPatches: [{applyTo: LISTENER_FILTER, match: {listener: {portNumber: 80}}, patch: {operation: MERGE, value: {}}}]}",
      "names the filter",
    ],
    [
      envoyFilter,
      "EnvoyFilter",
      "{configPatches: [{applyTo: HTTP_FILTER, match: {context: WAYPOINT}, patch: {operation: ADD, value: {}}}]}",
      "waypoints",
    ],
    [envoyFilter, "EnvoyFilter", "{targetRefs: [{kind: Service, name: a}]}", "target Service a is for waypoints"],
    ["extensions.istio.io/v1alpha1", "WasmPlugin", "{url: 'oci://x/y:1'}", "no plugin is run"],
    ["telemetry.istio.io/v1", "Telemetry", "{}", "no effect"],
    ["networking.istio.io/v1beta1", "ProxyConfig", "{concurrency: 2}", "no effect"],
    [networking, "DestinationRule", "{host: a, trafficPolicy: {tls: {mode: SIMPLE, credentialName: c}}}", "send PLAINTEXT"],
    [
      networking,
      "DestinationRule",
      "{host: a, subsets: [{name: v1, trafficPolicy: {tls: {mode: MUTUAL, credentialName: c}}}]}",
      "subset v1",
    ],
    [
      networking,
      "DestinationRule",
      "{host: a, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE, credentialName: c}}]}}",
      "portLevelSettings[80].tls",
    ],
    [
      networking,
      "VirtualService",
      "{hosts: [a], tcp: [{match: [{sourceSubnet: 10.0.0.0/8}], route: [{destination: {host: a}}]}]}",
      "sourceSubnet",
    ],
    ["networking.k8s.io/v1", "Ingress", "{defaultBackend: {service: {name: a, port: {number: 80}}}}", "defaultBackend is ignored"],
    ["networking.k8s.io/v1", "Ingress", "{tls: [{hosts: [a.test]}]}", "names no secret"],
    ["networking.k8s.io/v1", "Ingress", "{rules: [{host: a.test}]}", "has no paths"],
    [
      networking,
      "DestinationRule",
      "{host: a, trafficPolicy: {loadBalancer: {zoneAwareLbSetting: {enabled: true}}}}",
      "all zones are alike",
    ],
    [
      networking,
      "ServiceEntry",
      "{hosts: ['*.a.test'], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DYNAMIC_DNS}",
      "no endpoints",
    ],
    [
      networking,
      "VirtualService",
      "{hosts: [a], http: [{match: [{headers: {'@request.auth.claims.group': {exact: admin}}}], route: [{destination: {host: a}}]}]}",
      "no token was checked",
    ],
  ])("%s %s %s is told", (group, kind, spec, words) => {
    expect(sentences(group, kind, spec)).toEqual([expect.stringContaining(words)]);
  });

  it.each([
    ["DestinationRule", "{host: a, trafficPolicy: {tls: {mode: SIMPLE, sni: a.test}, outlierDetection: {consecutive5xxErrors: 1}}}"],
    [
      "Gateway",
      "{servers: [{port: {number: 443, name: h, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: c, minProtocolVersion: TLSV1_2}}]}",
    ],
    ["Sidecar", "{egress: [{port: {number: 9080, protocol: HTTP, name: h}, bind: 127.0.0.2, captureMode: NONE, hosts: ['./*']}]}"],
    [
      "DestinationRule",
      "{host: a, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}, subsets: [{name: v1, trafficPolicy: {tls: {mode: DISABLE}}}]}",
    ],
    ["DestinationRule", "{host: a, workloadSelector: {matchLabels: {app: a}}, trafficPolicy: {tls: {mode: MUTUAL, credentialName: c}}}"],
    ["DestinationRule", "{host: a, trafficPolicy: {tls: {mode: SIMPLE, credentialName: 'configmap://default/ca'}}}"],
    ["Gateway", "{servers: [{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.local'], tls: {mode: AUTO_PASSTHROUGH}}]}"],
    ["Sidecar", "{ingress: [{port: {number: 80, protocol: HTTP, name: h}, defaultEndpoint: '127.0.0.1:80'}], inboundConnectionPool: {}}"],
    ["Sidecar", "{egress: [{hosts: ['./*']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}"],
    ["Sidecar", "{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: out.test, port: {number: 80}}}}"],
    ["DestinationRule", "{host: a, trafficPolicy: {retryBudget: {percent: 20}, proxyProtocol: {version: V2}}}"],
    ["ServiceEntry", "{hosts: [a.test], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}"],
    ["VirtualService", "{hosts: [a], http: [{match: [{headers: {end-user: {exact: jason}}}], route: [{destination: {host: a}}]}]}"],
    [
      "VirtualService",
      "{hosts: [a], gateways: [gw], http: [{match: [{headers: {'@request.auth.claims.group': {exact: admin}}}], route: [{destination: {host: a}}]}]}",
    ],
  ])("%s %s is silent", (kind, spec) => {
    expect(sentences(networking, kind, spec)).toEqual([]);
  });

  it("PeerAuthentication is silent", () => {
    expect(sentences(security, "PeerAuthentication", "{mtls: {mode: STRICT}}")).toEqual([]);
  });
});
