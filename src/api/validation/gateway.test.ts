import { describe } from "vitest";
import { itChecks } from "./problems-of.ts";

const server = (more: string) =>
  `selector: { istio: ingressgateway }\nservers:\n- { port: { number: 443, name: https, protocol: HTTPS }, hosts: [a.example.com], ${more} }`;
const tls = (settings: string) => server(`tls: ${settings}`);
const http = (more: string) => `servers:\n- { port: { number: 80, name: http, protocol: HTTP }, ${more} }`;

describe("Gateway", () => {
  itChecks("Gateway", [
    [
      "takes plain HTTP and a credential",
      `${tls("{ mode: SIMPLE, credentialName: c }")}\n- { port: { number: 80, name: http, protocol: HTTP }, hosts: ["*"] }`,
    ],
    ["takes names written in snake_case", tls("{ mode: SIMPLE, credential_name: c, min_protocol_version: TLSV1_2 }")],
    ["takes hosts with a namespace", http('hosts: ["*/a.example.com", "./*.example.com", "prod/b.example.com", "10.0.0.1"]')],
    ["takes a redirect to HTTPS", http('hosts: ["*"], tls: { httpsRedirect: true }')],
    ["takes a Unix socket", 'servers: [{ port: { number: 0, name: http, protocol: HTTP }, bind: "unix:///run/gw.sock", hosts: ["*"] }]'],
    ["wants a server", "selector: { a: b }", "spec.servers: is empty"],
    ["wants a host", http("hosts: []"), "spec.servers[0].hosts: is empty"],
    [
      "wants full host names",
      http('hosts: [short, "*foo.example.com", "-.example.com", "~/a.example.com", "a/b/c.example.com"]'),
      'spec.servers[0].hosts[0]: "short" is a short name',
      'spec.servers[0].hosts[1]: "*foo.example.com": a wildcard stands',
      'spec.servers[0].hosts[2]: "-.example.com" is not a host name',
      'spec.servers[0].hosts[3]: namespace "~"',
      'spec.servers[0].hosts[4]: "a/b/c.example.com" must be of the form',
    ],
    ["wants a port", 'servers: [{ hosts: ["*"] }]', "spec.servers[0].port: is missing"],
    [
      "wants a port that means something",
      'servers: [{ port: { number: 70000, protocol: FOO, targetPort: 1 }, hosts: ["*"] }]',
      "spec.servers[0].port.name: is missing",
      "spec.servers[0].port.number: port 70000 is out of range",
      'spec.servers[0].port.protocol: "FOO" is not a protocol',
      "spec.servers[0].port.targetPort: has no meaning",
    ],
    [
      "wants different port names",
      `${http('hosts: ["*"]')}\n- { port: { number: 81, name: http, protocol: HTTP }, hosts: ["*"] }`,
      'spec.servers[1].port.name: "http" names another',
    ],
    ["wants an address to bind to", http('hosts: ["*"], bind: not-an-ip'), "spec.servers[0].bind: "],
    [
      "wants port 0 for a socket, and its absolute path",
      http('hosts: ["*"], bind: "unix://relative"'),
      "spec.servers[0].bind: ",
      "spec.servers[0].port.number: must be 0",
    ],
    ["wants TLS settings for HTTPS", server("name: x"), "spec.servers[0].tls: is missing"],
    ["wants none for HTTP", http('hosts: ["*"], tls: { mode: SIMPLE, credentialName: c }'), "spec.servers[0].tls: can't be given for HTTP"],
    [
      "wants none for TCP",
      'servers: [{ port: { number: 80, name: t, protocol: TCP }, hosts: ["*"], tls: { mode: SIMPLE, credentialName: c, httpsRedirect: true } }]',
      "spec.servers[0].tls: can't be given for TCP",
      "W spec.servers[0].tls.httpsRedirect: ",
    ],
    [
      "wants no certificates with ISTIO_MUTUAL",
      tls("{ mode: ISTIO_MUTUAL, credentialName: c, privateKey: k }"),
      "spec.servers[0].tls.credentialName: can't be given with ISTIO_MUTUAL",
      "spec.servers[0].tls.privateKey: can't",
    ],
    [
      "wants certificates for SIMPLE",
      tls("{ mode: SIMPLE }"),
      "spec.servers[0].tls.privateKey: is missing",
      "spec.servers[0].tls.serverCertificate: is missing",
    ],
    [
      "wants a CA for MUTUAL",
      tls("{ mode: MUTUAL, serverCertificate: c, privateKey: k }"),
      "spec.servers[0].tls.caCertificates: is missing",
    ],
    [
      "wants one source of certificates",
      tls("{ mode: SIMPLE, credentialName: c, credentialNames: [d] }"),
      "spec.servers[0].tls: only one of",
    ],
    [
      "wants complete certificates, and uses two",
      tls(
        "{ mode: SIMPLE, tlsCertificates: [{ serverCertificate: a, privateKey: b }, { serverCertificate: c }, { serverCertificate: d, privateKey: e }] }",
      ),
      "spec.servers[0].tls.tlsCertificates[1].privateKey: is missing",
      "W spec.servers[0].tls.tlsCertificates: more than two",
    ],
    [
      "wants no revocation list where it can't be used",
      tls("{ mode: SIMPLE, credentialName: c, caCrl: l }"),
      "spec.servers[0].tls.caCrl: can't be given with SIMPLE",
      "spec.servers[0].tls.caCrl: can't be given with credentialName",
    ],
    [
      "warns of certificates that aren't used",
      tls("{ mode: PASSTHROUGH, privateKey: k }"),
      "W spec.servers[0].tls: PASSTHROUGH terminates no TLS",
    ],
    [
      "warns of old TLS without ciphers",
      tls("{ mode: SIMPLE, credentialName: c, minProtocolVersion: TLSV1_1 }"),
      "W spec.servers[0].tls.minProtocolVersion: below TLSV1_2",
    ],
    [
      "warns of ciphers that are none, or twice there",
      tls("{ mode: SIMPLE, credentialName: c, cipherSuites: [FOO, AES128-SHA, AES128-SHA] }"),
      'W spec.servers[0].tls.cipherSuites[0]: "FOO" is not a cipher',
      'W spec.servers[0].tls.cipherSuites[2]: "AES128-SHA" is given twice',
    ],
    [
      "refuses unknown fields and modes",
      tls("{ mode: NONSENSE, credentialNam: c }"),
      'spec.servers[0].tls.credentialNam: unknown field "credentialNam" in ServerTLSSettings (is "credentialName" meant?)',
      'spec.servers[0].tls.mode: "NONSENSE" is not one of',
    ],
  ]);

  describe("named with a dot", () => {
    itChecks("Gateway", [["is refused", http('hosts: ["*"]'), "spec: a Gateway's name can't have dots"]], "{ name: a.b }");
  });
});
