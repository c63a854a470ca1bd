/**
 * Which of a scraper's wishes a source is asked for, and what its answer is. Pages are put together as text, so that protobuf is nothing
 * anybody is asked for. Source: Istio pilot/cmd/pilot-agent/status/server.go (allowedContentTypes, negotiateMetricsFormat).
 */
export const textFormat = "text/plain; version=0.0.4; charset=utf-8";
const plainText = "text/plain;version=0.0.4";
const openMetrics = "application/openmetrics-text";
const openMetricsVersions: ReadonlySet<string> = new Set(["0.0.1", "1.0.0"]);

export function isOpenMetrics(contentType: string): boolean {
  return contentType.startsWith(openMetrics);
}

/** The `accept` header for an application, or for the proxy, whose page never ends a whole one. */
export function wishes(accept: string, takesOpenMetrics: boolean): string {
  const wanted = accept.split(",").flatMap((part) => {
    const [type = "", ...parameters] = part.split(";").map((word) => word.trim());
    const rest = parameters.filter((parameter) => parameter !== "" && !/^q=/i.test(parameter));
    switch (type.toLowerCase()) {
      case "*":
      case "*/*":
        return [plainText];
      case "text/*":
      case "text/plain":
        return [[type.toLowerCase(), ...rest].join(";")];
      case "application/*":
        return takesOpenMetrics ? [`${openMetrics};version=0.0.1`] : [];
      case openMetrics:
        return takesOpenMetrics ? [[openMetrics, ...rest].join(";")] : [];
      default:
        return [];
    }
  });
  // Of what is wanted equally the first is what Istio prefers.
  const once = [...new Set(wanted)].slice(0, 9);
  return once.length === 0 ? plainText : once.map((type, index) => `${type};q=0.${once.length - index}`).join(",");
}

/** The format of a whole page whose last part is this. */
export function formatOf(contentType: string): string {
  const [type = "", ...parameters] = contentType.split(";").map((word) => word.trim().toLowerCase());
  if (type !== openMetrics) return textFormat;
  const version =
    parameters
      .find((parameter) => parameter.startsWith("version="))
      ?.slice("version=".length)
      .replaceAll('"', "") || "0.0.1";
  return openMetricsVersions.has(version) ? `${openMetrics}; version=${version}; charset=utf-8` : textFormat;
}
