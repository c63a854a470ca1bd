/** What a certificate's key may be used for; node:crypto does not tell. Source: RFC 5280 4.1, 4.2.1.3. */
import { derTag, readDer, readDerList } from "../../lib/der.ts";

const extensionsTag = 0xa3;
const keyUsageId = Buffer.from("551d0f", "hex");
/** Of the bit string's first byte. */
const [keyCertSign, crlSign] = [0x04, 0x02];

/** Whether it may sign certificates or lists; a certificate that does not say what it is for may. */
export function maySign(certificate: Buffer): boolean {
  const bits = keyUsageOf(certificate);
  return bits === null || (bits & (keyCertSign | crlSign)) !== 0;
}

function keyUsageOf(certificate: Buffer): number | null {
  const signed = readDer(certificate, 0);
  const content = signed && readDer(signed.content, 0);
  const extensions = content && readDerList(content.content)?.find(({ tag }) => tag === extensionsTag);
  const list = extensions && readDer(extensions.content, 0);
  for (const extension of (list && readDerList(list.content)) ?? []) {
    const parts = readDerList(extension.content);
    if (!parts?.[0]?.content.equals(keyUsageId)) continue;
    const value = parts.find(({ tag }) => tag === derTag.octetString);
    const bits = value && readDer(value.content, 0);
    // The first byte counts unused bits of the last.
    return bits && bits.content.length > 1 ? bits.content[1]! : 0;
  }
  return null;
}
