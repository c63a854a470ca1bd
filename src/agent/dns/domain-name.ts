/** Names between text (`web.shop.`) and the form that packets and tables have: each label behind its length, one character a byte. */
import { maxNameBytes } from "./protocol.ts";

const maxLabelBytes = 63;

/** In lower case, with or without the final dot; undefined for what is no name. */
export function encodeName(text: string): string | undefined {
  const bare = text.toLowerCase().replace(/\.$/, "");
  if (bare === "") return text === "." ? "\0" : undefined;
  let wire = "";
  for (const label of bare.split(".")) {
    // Names beyond ASCII travel in their xn-- form.
    if (label.length === 0 || label.length > maxLabelBytes || /[^\x20-\x7e]/.test(label)) return undefined;
    wire += String.fromCharCode(label.length) + label;
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
