/** x-forwarded-client-cert: what an upstream is told of the client's certificate; reference 2.5. */
import { createHash, X509Certificate } from "node:crypto";
import type { ClientCertificateForwarding } from "../http/connection-manager.ts";
import { getHeader, removeHeader, setHeader } from "../http/header-list.ts";
import type { HttpStream } from "../http/http-stream.ts";
import type { TlsInfo } from "../stream-info.ts";

const headerName = "x-forwarded-client-cert";
/** The element is the same for all requests of a connection. */
const elements = new WeakMap<TlsInfo, string>();

export function clientCertificateHeader(stream: HttpStream, forwarding: ClientCertificateForwarding): void {
  const headers = stream.info.requestHeaders;
  const { tls } = stream.connection.info;
  if (forwarding.mode === "alwaysForwardOnly") return;
  if (forwarding.mode === "sanitize" || tls === null || tls.peerCertificate === null) {
    removeHeader(headers, headerName);
    return;
  }
  if (forwarding.mode === "forwardOnly") return;
  let element = elements.get(tls);
  if (element === undefined) {
    element = describe(tls, forwarding);
    elements.set(tls, element);
  }
  const before = forwarding.mode === "appendForward" ? getHeader(headers, headerName) : undefined;
  setHeader(headers, headerName, before === undefined ? element : `${before},${element}`);
}

function describe(tls: TlsInfo, forwarding: ClientCertificateForwarding): string {
  const peer = new X509Certificate(tls.peerCertificate!);
  const parts: string[] = [];
  if (tls.localCertificate !== null) {
    for (const uri of names(new X509Certificate(tls.localCertificate), "URI")) parts.push(`By=${uri}`);
  }
  parts.push(`Hash=${createHash("sha256").update(tls.peerCertificate!).digest("hex")}`);
  if (forwarding.cert) parts.push(`Cert="${urlEncoded(peer.toString())}"`);
  if (forwarding.chain) parts.push(`Chain="${urlEncoded(peer.toString())}"`);
  if (forwarding.subject) parts.push(`Subject="${peer.subject.split("\n").reverse().join(",")}"`);
  if (forwarding.uri) {
    const uris = names(peer, "URI");
    if (uris.length === 0) parts.push("URI=");
    for (const uri of uris) parts.push(`URI=${uri}`);
  }
  if (forwarding.dns) for (const name of names(peer, "DNS")) parts.push(`DNS=${name}`);
  return parts.join(";");
}

function names(certificate: X509Certificate, type: "URI" | "DNS"): string[] {
  return [...(certificate.subjectAltName ?? "").matchAll(new RegExp(`(?:^|, )${type}:([^,]*)`, "g"))].map((match) => match[1]!);
}

function urlEncoded(pem: string): string {
  return encodeURIComponent(pem);
}
