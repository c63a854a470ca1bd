/** Names between text (`web.shop.`) and the form that packets and tables have: each label behind its length, one character a byte. */
import { maxNameBytes } from "./protocol.ts";

const maxLabelBytes = 63;
const lengthBytes = Array.from({ length: maxLabelBytes + 1 }, (_, length) => String.fromCharCode(length));

/** In lower case, with or without the final dot; undefined for what is no name. */
export function encodeName(text: string): string | undefined {
  // Names beyond ASCII travel in their xn-- form.
  if (text === "." || text === "" || /[^\x20-\x7e]/.test(text)) return text === "." ? "\0" : undefined;
  const lower = text.toLowerCase();
  const end = lower.endsWith(".") ? lower.length - 1 : lower.length;
  let wire = "";
  for (let start = 0; start <= end; ) {
    const dot = lower.indexOf(".", start);
    const labelEnd = dot < 0 || dot > end ? end : dot;
    const length = labelEnd - start;
    if (length === 0 || length > maxLabelBytes) return undefined;
    wire += lengthBytes[length] + lower.slice(start, labelEnd);
    start = labelEnd + 1;
  }
  return wire.length < maxNameBytes ? `${wire}\0` : undefined;
}

/** For logs: with the final dot, and whatever is no plain character written as `\ddd`. */
export function decodeName(wire: string): string {
  const labels: string[] = [];
  for (let at = 0; at < wire.length && wire.charCodeAt(at) > 0; at += wire.charCodeAt(at) + 1) {
    const label = wire.slice(at + 1, at + 1 + wire.charCodeAt(at));
    labels.push(label.replace(/[^\w*-]/g, (byte) => `\\${String(byte.charCodeAt(0)).padStart(3, "0")}`));
  }
  return `${labels.join(".")}.`;
}
