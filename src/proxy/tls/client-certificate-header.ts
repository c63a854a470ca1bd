/** x-forwarded-client-cert: what an upstream is told of the client's certificate; reference 2.5. */
import { certificateFields } from "../accesslog/certificate-fields.ts";
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
  const peer = certificateFields(tls.peerCertificate!);
  if (peer === null) return "";
  const local = tls.localCertificate === null ? null : certificateFields(tls.localCertificate);
  const parts = (local?.uriSans ?? []).map((uri) => `By=${uri}`);
  parts.push(`Hash=${peer.sha256}`);
  if (forwarding.cert) parts.push(`Cert="${peer.encodedPem}"`);
  if (forwarding.chain) parts.push(`Chain="${peer.encodedPem}"`);
  // A workload's certificate has none: the element is there all the same.
  if (forwarding.subject) parts.push(`Subject="${peer.subject}"`);
  if (forwarding.uri) parts.push(...(peer.uriSans.length === 0 ? ["URI="] : peer.uriSans.map((uri) => `URI=${uri}`)));
  if (forwarding.dns) parts.push(...peer.dnsSans.map((name) => `DNS=${name}`));
  return parts.join(";");
}
