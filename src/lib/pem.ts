/** PEM text: several blocks in one file. */

const block = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;

/** Each certificate by itself, ending in a newline. */
export function splitCertificates(pem: string): string[] {
  return [...pem.matchAll(block)].map(([text]) => `${text.trim()}\n`);
}

export function joinCertificates(certificates: readonly string[]): string {
  return [...new Set(certificates.map((certificate) => `${certificate.trim()}\n`))].join("");
}

/** One block. `label`: what BEGIN and END name. */
export function writePem(label: string, der: Buffer): string {
  return `-----BEGIN ${label}-----\n${der.toString("base64").replaceAll(/.{64}(?=.)/g, "$&\n")}\n-----END ${label}-----\n`;
}
