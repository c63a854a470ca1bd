/** JSON as protobuf prints a Struct, which is what claims look like that are objects or lists: numbers as C's %g, and more escapes. */

export function structJson(value: unknown): string {
  switch (typeof value) {
    case "string":
      return stringJson(value);
    case "number":
      return numberJson(value);
    case "object": {
      if (value === null) return "null";
      if (Array.isArray(value)) return `[${value.map(structJson).join(",")}]`;
      return `{${Object.entries(value)
        .map(([name, inner]) => `${stringJson(name)}:${structJson(inner)}`)
        .join(",")}}`;
    }
    default:
      return String(value);
  }
}

/** What could end a script, or can't be seen. */
const escaped =
  /[<>\x7f-\x9f\xad\u0600-\u0603\u06dd\u070f\u17b4\u17b5\u200b-\u200f\u2028-\u202e\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\u{1d173}-\u{1d17a}\u{e0001}\u{e0020}-\u{e007f}]/gu;

function stringJson(text: string): string {
  return JSON.stringify(text).replace(escaped, (character) => {
    let units = "";
    for (let i = 0; i < character.length; i++) units += `\\u${character.charCodeAt(i).toString(16).padStart(4, "0")}`;
    return units;
  });
}

/** %.15g where that is exact, else %.17g. */
function numberJson(value: number): string {
  const digits = Number(value.toPrecision(15)) === value ? 15 : 17;
  const [mantissa, exponentText] = value.toExponential(digits - 1).split("e") as [string, string];
  const exponent = Number(exponentText);
  if (exponent >= -4 && exponent < digits) {
    // JavaScript writes such numbers plainly as well; only a zero may have a sign that it drops.
    return Object.is(value, -0) ? "-0" : trimmed(value.toFixed(Math.max(0, digits - 1 - exponent)));
  }
  return `${trimmed(mantissa)}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

function trimmed(decimal: string): string {
  return decimal.includes(".") ? decimal.replace(/\.?0+$/, "") : decimal;
}
