/** What is said of a bootstrap, in a form in which Envoy's words and ours can be compared. */
import { ConfigError } from "../../src/api/config-error.ts";
import { loadBootstrap } from "../../src/proxy/config/bootstrap.ts";
import { validateBootstrap } from "../../src/proxy/config/validate-bootstrap.ts";

/** undefined for OK, else the reason; `envoyValidates` is the same of Envoy. */
export function ourVerdict(yaml: string): string | undefined {
  try {
    validateBootstrap(loadBootstrap({ yaml }).bootstrap, "", "");
    return undefined;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.message;
  }
}

/** A reason without what can't be equal: offsets in a JSON that only Envoy sees, that JSON itself, the printed message. */
export function comparableReason(reason: string | undefined): string | undefined {
  return (
    reason
      ?.replaceAll(/\s+/g, " ")
      .replace(/, near ?\d+:\d+( ?\(offset ?\d+\))?/, "")
      .replace(/\)( ?): \{.*$/, ")")
      .replace(/^.*: Proto constraint validation failed/, "Proto constraint validation failed")
      .replace(/ ?@ /, " @ ")
      .replaceAll(/: +/g, ": ")
      // Envoy's order of a map's keys is random, so which of the two is the second is too.
      .replace(/ @ \S+: message \S+: '\w+' has already been set/, " has already been set")
  );
}
