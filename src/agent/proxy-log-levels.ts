/** `--proxyLogLevel` as Envoy's two flags have it. Source: Istio pkg/envoy/proxy.go (splitComponentLog). */

/** The words with a colon are for parts of the proxy. */
export function proxyLogLevels(text: string): { readonly logLevel: string; readonly componentLogLevel: string } {
  const words = text.split(",").filter(Boolean);
  const isOfPart = (word: string) => word.includes(":");
  return { logLevel: words.find((word) => !isOfPart(word)) ?? "warning", componentLogLevel: words.filter(isOfPart).join(",") };
}
